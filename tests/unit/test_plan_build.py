"""The plan of a container's birth: which operations, in which order, from which line. Needs no root."""

from __future__ import annotations

import os
from typing import Any

import pytest

from masu.errors import FailedPrecondition, InvalidArgument
from masu.linux import mount as m
from masu.linux import namespaces
from masu.plan import build
from masu.plan.build import build_exec
from masu.plan.host import Host, Rootfs, Seccomp, Wishes
from masu.plan.ops import NONE, TARGET_COPY_UP, Op
from masu.spec import runtime as spec

ROOT = Rootfs("/bundle/rootfs")
V2 = Host(cgroup_mode="v2")
HYBRID = Host(
    cgroup_mode="hybrid",
    cgroup_mounts=(("/sys/fs/cgroup/memory", "memory"), ("/sys/fs/cgroup/cpu,cpuacct", "cpu,cpuacct")),
)


def config(**changes: Any) -> spec.Config:
    data: dict[str, Any] = {
        "ociVersion": "1.3.0",
        "process": {"args": ["true"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
        "root": {"path": "rootfs"},
        "linux": {"namespaces": [{"type": kind} for kind in ("mount", "pid", "ipc", "uts", "network")]},
    }
    for key, value in changes.items():
        target = data
        *path, last = key.split("__")
        for part in path:
            target = target.setdefault(part, {})
        target[last] = value
    return spec.parse_config(data, [])


def plan(host: Host = V2, wishes: Wishes | None = None, warnings: list[str] | None = None, **changes: Any) -> list[Op]:
    return build.build(config(**changes), ROOT, host, wishes or Wishes(), warnings)


def names(ops: list[Op]) -> list[str]:
    return [op.name for op in ops]


def only(ops: list[Op], name: str) -> Op:
    found = [op for op in ops if op.name == name]
    assert len(found) == 1, f"{len(found)} operations {name}"
    return found[0]


def before(ops: list[Op], first: str, second: str) -> bool:
    return names(ops).index(first) < names(ops).index(second)


def test_the_story_in_order() -> None:
    ops = plan(hostname="box", process__noNewPrivileges=True)
    wanted = ["open_tree", "clone", "setsid", "loopback", "root_propagation", "root_attach", "mknod", "symlink"]
    wanted += ["pivot_root", "hostname", "no_new_privs", "close_fds", "umask", "stdio_owner", "chdir", "setuser"]
    wanted += ["find_program", "ready", "exec"]
    seen = [name for i, name in enumerate(names(ops)) if name in wanted and name not in names(ops)[:i]]
    assert seen == wanted


def test_everything_from_the_host_is_opened_before_any_namespace() -> None:
    ops = plan(
        mounts=[{"destination": "/data", "source": "/srv", "options": ["rbind", "ro"]}],
        linux__maskedPaths=["/proc/kcore"],
        linux__uidMappings=[{"containerID": 0, "hostID": 100000, "size": 65536}],
        linux__gidMappings=[{"containerID": 0, "hostID": 100000, "size": 65536}],
        linux__namespaces=[{"type": "mount"}, {"type": "user"}, {"type": "network", "path": "/run/netns/x"}],
    )
    last_opened = max(i for i, op in enumerate(ops) if op.name in ("open", "open_tree", "mount_attr"))
    first_entered = min(i for i, op in enumerate(ops) if op.name in ("setns", "unshare", "clone"))
    assert last_opened < first_entered


def test_root_joins_others_before_the_user_namespace_and_a_user_after_it() -> None:
    changes: dict[str, Any] = {
        "linux__namespaces": [{"type": "user"}, {"type": "mount"}, {"type": "network", "path": "/run/netns/x"}],
        "linux__uidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
        "linux__gidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
    }
    assert before(plan(Host(uid=0), **changes), "setns", "unshare")
    assert before(plan(Host(uid=1000, capabilities=0), **changes), "unshare", "setns")
    ops = plan(**changes)
    assert names(ops)[names(ops).index("unshare") :][:4] == ["unshare", "sync", "become", "clone"]


def test_without_power_over_mounts_they_are_cloned_in_the_user_namespace() -> None:
    changes: dict[str, Any] = {
        "linux__namespaces": [{"type": "user"}, {"type": "mount"}],
        "linux__uidMappings": [{"containerID": 5, "hostID": 1000, "size": 1}],
        "linux__gidMappings": [{"containerID": 6, "hostID": 1000, "size": 1}],
    }
    ops = plan(Host(uid=1000, capabilities=0), **changes)
    trees = [i for i, op in enumerate(ops) if op.name in ("open_tree", "mount_attr")]
    order = [(op.name, op.fields.get("flags")) for op in ops[: trees[0]] if op.name in ("unshare", "sync")]
    assert order == [("unshare", namespaces.FLAGS["user"]), ("sync", None), ("unshare", namespaces.FLAGS["mount"])]
    become, clone = ops[trees[-1] + 1 : trees[-1] + 3]
    assert (become.name, become.fields) == ("become", {"uid": 5, "gid": 6})
    assert (clone.name, clone.fields["flags"]) == ("clone", 0)
    assert names(ops)[names(ops).index("caps") + 1] == "dumpable"
    assert "dumpable" not in names(plan(**changes))


def test_mount_namespace_is_joined_last() -> None:
    ops = plan(
        linux__namespaces=[{"type": "mount", "path": "/proc/1/ns/mnt"}, {"type": "pid", "path": "/proc/1/ns/pid"}]
    )
    kinds = [op.fields["nstype"] for op in ops if op.name == "setns"]
    assert kinds == [namespaces.FLAGS["pid"], namespaces.FLAGS["mount"]]
    assert "pivot_root" not in names(ops)
    assert "open_tree" not in names(ops)


def test_time_offsets_are_written_between_unshare_and_clone() -> None:
    ops = plan(
        linux__namespaces=[{"type": "mount"}, {"type": "time"}],
        linux__timeOffsets={"monotonic": {"secs": 100, "nanosecs": 5}},
    )
    at = names(ops).index("unshare")
    assert names(ops)[at : at + 3] == ["unshare", "write", "clone"]
    assert ops[at + 1].fields["data"] == b"monotonic 100 5\n"
    clone_flags = only(ops, "clone").fields["flags"]
    assert isinstance(clone_flags, int)
    assert not clone_flags & namespaces.FLAGS["time"]


def test_v2_clones_into_the_cgroup_and_makes_its_namespace_afterwards() -> None:
    ops = plan(wishes=Wishes(cgroup_dir="/sys/fs/cgroup/x"), linux__namespaces=[{"type": "mount"}, {"type": "cgroup"}])
    clone = only(ops, "clone")
    assert clone.fields["cgroup"] != NONE
    assert clone.fields["flags"] == namespaces.FLAGS["mount"]
    assert ops[ops.index(clone) + 2].fields == {"flags": namespaces.FLAGS["cgroup"]}


def test_v2_without_a_namespace_shows_the_whole_tree() -> None:
    ops = plan(
        wishes=Wishes(cgroup_paths={"": "/sys/fs/cgroup/x"}),
        mounts=[{"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro"]}],
    )
    opened = [op.fields["path"] for op in ops if op.name == "open_tree"]
    assert "/sys/fs/cgroup" in opened
    assert "/sys/fs/cgroup/x" not in opened
    assert only(ops, "attach").fields["target"] == "/sys/fs/cgroup"


def test_v2_gets_the_options_of_its_mount() -> None:
    """They were dropped without a word; the kernel knows which it takes."""
    ops = plan(
        V2,
        linux__namespaces=[{"type": "mount"}, {"type": "cgroup"}],
        mounts=[{"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro", "nsdelegate"]}],
    )
    (made,) = (op for op in ops if op.name == "mount" and op.fields["target"] == "/sys/fs/cgroup")
    assert (made.fields["fstype"], made.fields["options"]) == ("cgroup2", ("nsdelegate",))


def test_v1_joins_by_the_tasks_files_first() -> None:
    ops = plan(
        HYBRID,
        Wishes(join_files=("/sys/fs/cgroup/memory/x/tasks",)),
        linux__namespaces=[{"type": "mount"}, {"type": "cgroup"}],
    )
    assert ops[0].fields == {"path": "/sys/fs/cgroup/memory/x/tasks", "data": b"0"}
    assert only(ops, "clone").fields["flags"] == namespaces.FLAGS["mount"] | namespaces.FLAGS["cgroup"]


def test_bind_mount_becomes_tree_attributes_and_attach() -> None:
    ops = plan(mounts=[{"destination": "/data", "source": "/srv", "options": ["rbind", "ro", "nosuid", "rnodev"]}])
    tree = next(op for op in ops if op.name == "open_tree" and op.fields["path"] == "/srv")
    slot = tree.fields["slot"]
    attributes = [op for op in ops if op.name == "mount_attr" and op.fields["slot"] == slot]
    assert [op.fields["propagation"] for op in attributes] == [m.MS_SLAVE, 0, 0]
    assert attributes[1].fields["set"] == m.MOUNT_ATTR_RDONLY | m.MOUNT_ATTR_NOSUID
    assert (attributes[2].fields["set"], attributes[2].fields["recursive"]) == (m.MOUNT_ATTR_NODEV, 1)
    attach = only(ops, "attach")
    assert (attach.fields["slot"], attach.fields["target"], attach.where) == (slot, "/data", "mounts[0]")


def test_a_shared_root_keeps_its_binds_shared() -> None:
    mounts = [{"destination": "/data", "source": "/srv", "options": ["bind", "rshared"]}]
    ops = plan(mounts=mounts, linux__rootfsPropagation="rshared")
    assert m.MS_SLAVE not in [op.fields["propagation"] for op in ops if op.name == "mount_attr"]
    shared = [(op.fields["target"], op.fields["flags"]) for op in ops if op.name == "propagation"]
    assert shared == [("/data", m.MS_SHARED | m.MS_REC), ("/", m.MS_SHARED | m.MS_REC)]
    # pivot_root(2) refuses a new root whose parent is shared.
    flags = [op.fields["flags"] for op in ops if op.name == "root_propagation"]
    assert flags == [m.MS_SHARED | m.MS_REC, m.MS_PRIVATE]


def test_idmapped_mount() -> None:
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    ops = plan(
        mounts=[
            {"destination": "/d", "source": "/s", "options": ["bind"], "uidMappings": mapping, "gidMappings": mapping}
        ]
    )
    userns = only(ops, "idmap_userns")
    assert userns.fields["uid_map"] == "0 100000 65536\n"
    assert userns.fields["slot"] in [op.fields.get("userns") for op in ops if op.name == "mount_attr"]


def test_a_read_only_dev_is_filled_first() -> None:
    ops = plan(mounts=[{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "nosuid"]}])
    assert only(ops, "mount").fields["attr"] == m.MOUNT_ATTR_NOSUID
    assert before(ops, "mknod", "remount")
    assert only(ops, "remount").fields["set"] == m.MOUNT_ATTR_RDONLY


def test_dev_from_the_host_is_left_alone() -> None:
    ops = plan(mounts=[{"destination": "/dev/", "source": "/dev", "options": ["rbind"]}])
    assert "mknod" not in names(ops)
    assert "symlink" not in names(ops)


def test_devices_are_binds_in_a_user_namespace() -> None:
    ops = plan(
        linux__namespaces=[{"type": "mount"}, {"type": "user"}],
        linux__uidMappings=[{"containerID": 0, "hostID": 1000, "size": 1}],
        linux__gidMappings=[{"containerID": 0, "hostID": 1000, "size": 1}],
    )
    assert "mknod" not in names(ops)
    assert "/dev/null" in [op.fields["path"] for op in ops if op.name == "open_tree"]


def test_makedev_is_the_kernels() -> None:
    ops = plan(linux__devices=[{"path": "/dev/x", "type": "b", "major": 0xABC, "minor": 0x56789, "fileMode": 0o640}])
    device = next(op for op in ops if op.name == "mknod" and op.fields["path"] == "/dev/x")
    assert device.fields["rdev"] == os.makedev(0xABC, 0x56789)
    assert device.fields["mode"] == 0o060640


def test_tmpcopyup() -> None:
    ops = plan(mounts=[{"destination": "/run", "type": "tmpfs", "options": ["tmpcopyup", "size=1m"]}])
    mounted = only(ops, "mount")
    assert mounted.fields["flags"] == TARGET_COPY_UP
    assert mounted.fields["options"] == ("size=1m",)


def test_long_overlays_are_given_layer_by_layer() -> None:
    lower = ":".join(f"/var/lib/masu/snapshots/overlayfs/{n}/fs" for n in range(12)) + ":/odd\\:name"
    root = Rootfs("img", ("overlay", "overlay", (f"lowerdir={lower}", "upperdir=/u", "workdir=/w", "index=off")))
    ops = build.build(config(), root, V2, Wishes())
    options = only(ops, "new_mount").fields["options"]
    assert isinstance(options, tuple)
    assert options[0] == "lowerdir+=/var/lib/masu/snapshots/overlayfs/0/fs"
    assert options[12:] == ("lowerdir+=/odd:name", "upperdir=/u", "workdir=/w", "index=off")


def test_seccomp_comes_early_without_no_new_privs_and_late_with_it() -> None:
    wishes = Wishes(seccomp=Seccomp(b"\0" * 8))
    assert before(plan(wishes=wishes), "seccomp", "setuser")
    assert before(plan(wishes=wishes, process__noNewPrivileges=True), "setuser", "seccomp")


def test_capabilities_the_machine_lacks_are_a_warning() -> None:
    warnings: list[str] = []
    everything = ["CAP_CHOWN", "CAP_SYS_RESOURCE"]
    # As CRI-O gives them to a privileged container.
    capabilities = dict.fromkeys(("bounding", "permitted", "effective", "inheritable", "ambient"), everything)
    host = Host(bounding=(1 << 41) - 1 & ~(1 << 24))
    ops = plan(host, warnings=warnings, process__capabilities=capabilities)
    assert only(ops, "caps").fields["effective"] == 1
    (once,) = warnings
    assert "CAP_SYS_RESOURCE" in once


def test_an_exec_is_not_told_again_what_the_machine_lacks() -> None:
    """CRI-O passes the container's own process on, and takes our standard error for the program's."""
    host = Host(bounding=(1 << 41) - 1 & ~(1 << 24))
    made = config(process__capabilities={"bounding": ["CAP_SYS_RESOURCE"], "permitted": ["CAP_SYS_RESOURCE"]})
    assert made.process is not None
    for around, told in ((made, 0), (config(), 1)):
        warnings: list[str] = []
        build_exec(made.process, host, Wishes(), pidfd=9, join=0, mapped=False, config=around, warnings=warnings)
        assert len(warnings) == told, warnings


def test_inheritable_stays_empty_unless_asked() -> None:
    capabilities = {name: ["CAP_CHOWN"] for name in ("bounding", "permitted", "effective")}
    ops = plan(process__capabilities=capabilities)
    assert only(ops, "caps").fields["inheritable"] == 0
    assert only(ops, "caps").fields["ambient"] == 0


@pytest.mark.parametrize(
    ("mounts", "where"),
    [
        ([{"destination": "/proc/sys", "source": "/x", "options": ["bind"]}], "mounts[0].destination"),
        ([{"destination": "/proc/../proc/self/x", "source": "/x", "options": ["bind"]}], "mounts[0].destination"),
        ([{"destination": "/", "type": "tmpfs"}], "mounts[0].destination"),
        ([{"destination": "/proc", "type": "tmpfs"}], "mounts[0].type"),
        ([{"destination": "/x"}], "mounts[0].type"),
        ([{"destination": "/x", "options": ["bind"]}], "mounts[0].source"),
    ],
)
def test_mounts_that_cannot_be(mounts: list[dict[str, Any]], where: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        plan(mounts=mounts)
    assert caught.value.where == where


def test_lxcfs_may_cover_meminfo() -> None:
    ops = plan(mounts=[{"destination": "/proc/meminfo", "source": "/var/lib/lxcfs/proc/meminfo", "options": ["bind"]}])
    assert only(ops, "attach").fields["target"] == "/proc/meminfo"


def test_hooks_stand_where_the_spec_puts_them() -> None:
    hook = [{"path": "/bin/true"}]
    ops = plan(hooks={"createRuntime": hook, "createContainer": hook, "startContainer": hook})
    order = [name for name in names(ops) if name in ("sync", "hook", "pivot_root", "ready", "exec")]
    assert order == ["sync", "hook", "pivot_root", "ready", "hook", "exec"]


def test_home_is_added_only_when_missing() -> None:
    ops = plan(wishes=Wishes(home="/root"))
    assert only(ops, "exec").fields["env"] == ("HOME=/root",)
    ops = plan(wishes=Wishes(home="/root"), process__env=["HOME=/srv"])
    assert only(ops, "exec").fields["env"] == ("HOME=/srv",)


def test_exec_joins_by_one_setns() -> None:
    process = config().process
    assert process is not None
    ops = build_exec(process, V2, Wishes(), pidfd=9, join=namespaces.FLAGS["pid"], mapped=False)
    assert names(ops)[:3] == ["adopt", "setns", "clone"]
    assert names(ops)[-1] == "exec"
    assert "root_attach" not in names(ops)


def test_a_cgroup_namespace_is_joined_from_within_the_cgroup() -> None:
    process = config().process
    assert process is not None
    both = namespaces.FLAGS["pid"] | namespaces.FLAGS["cgroup"]
    ops = build_exec(process, V2, Wishes(cgroup_dir="/sys/fs/cgroup/box"), pidfd=9, join=both, mapped=False)
    joins = [(i, op.fields["nstype"]) for i, op in enumerate(ops) if op.name == "setns"]
    clone = names(ops).index("clone")
    assert [(index < clone, kind) for index, kind in joins] == [
        (True, namespaces.FLAGS["pid"]),
        (False, namespaces.FLAGS["cgroup"]),
    ]
    by_path = plan(V2, Wishes(cgroup_dir="/x"), linux__namespaces=[{"type": "cgroup", "path": "/proc/1/ns/cgroup"}])
    assert before(by_path, "clone", "setns")
    brought = names(build_exec(process, V2, Wishes(brought=True), pidfd=9, join=both, mapped=False))
    assert brought.index("sync") < brought.index("setns")
    # Written to cgroup.procs before, it is in its cgroup already, and joins everything at once.
    ops = build_exec(process, V2, Wishes(join_files=("/x",)), pidfd=9, join=both, mapped=True)
    assert only(ops, "setns").fields["nstype"] == both


@pytest.mark.parametrize(
    ("text", "mask"),
    [("0", b"\x01" + bytes(7)), ("0-3,9", b"\x0f\x02" + bytes(6)), ("64", bytes(8) + b"\x01" + bytes(7))],
)
def test_cpu_masks(text: str, mask: bytes) -> None:
    from masu.plan.process import cpu_mask

    assert cpu_mask(text, "") == mask


@pytest.mark.parametrize("text", ["", "a", "3-1", "1-", "99999"])
def test_cpu_masks_that_cannot_be(text: str) -> None:
    from masu.plan.process import cpu_mask

    with pytest.raises(InvalidArgument):
        cpu_mask(text, "process")


def mounts_of(*kinds: str) -> list[dict[str, object]]:
    return [{"destination": f"/{kind}", "type": kind, "source": kind, "options": ["nosuid"]} for kind in kinds]


def test_the_label_of_mounts() -> None:
    label = "system_u:object_r:container_file_t:s0:c1,c2"
    ops = plan(linux__mountLabel=label, mounts=mounts_of("tmpfs", "devpts", "proc", "sysfs", "mqueue"))
    given = {op.fields["fstype"]: op.fields["options"] for op in ops if op.name == "mount"}
    assert given["tmpfs"] == given["devpts"] == ("context=" + label,)
    assert given["proc"] == given["sysfs"] == given["mqueue"] == ()
    # Its superblock is older than the mount, so it is labelled like a file.
    assert only(ops, "label").fields == {"target": "/mqueue", "label": label}


def test_a_label_of_the_mount_itself_wins() -> None:
    own = [{"destination": "/x", "type": "tmpfs", "source": "x", "options": ["context=u:r:t:s0"]}]
    (op,) = [op for op in plan(linux__mountLabel="u:r:other:s0", mounts=own) if op.name == "mount"]
    assert op.fields["options"] == ("context=u:r:t:s0",)


@pytest.mark.parametrize("kind", ["context", "fscontext", "defcontext", "rootcontext"])
def test_the_kind_of_label(kind: str) -> None:
    """crun's annotation; the label of a file stays what it is."""
    wishes = {"run.oci.mount_context_type": kind}
    ops = plan(linux__mountLabel="u:r:t:s0", mounts=mounts_of("tmpfs", "mqueue"), annotations=wishes)
    assert [op.fields["options"] for op in ops if op.name == "mount"] == [(f"{kind}=u:r:t:s0",), ()]
    assert only(ops, "label").fields["label"] == "u:r:t:s0"


def test_a_kind_of_label_that_is_none() -> None:
    with pytest.raises(InvalidArgument, match=r"annotations\[run.oci.mount_context_type\]: context type kontext"):
        plan(annotations={"run.oci.mount_context_type": "kontext"})


def test_the_label_is_of_the_cgroup_tmpfs_too() -> None:
    ops = plan(HYBRID, linux__mountLabel="u:r:t:s0", mounts=mounts_of("cgroup"))
    assert [op.fields["options"] for op in ops if op.name == "mount" and op.fields["fstype"] == "tmpfs"] == [
        ("mode=755", "context=u:r:t:s0")
    ]


@pytest.mark.parametrize(
    ("place", "host"),
    [
        ("linux__mountLabel", Host(selinux=False)),
        ("process__selinuxLabel", Host(selinux=False)),
        ("process__apparmorProfile", Host(apparmor=False)),
    ],
)
def test_labels_where_nobody_heeds_them(place: str, host: Host) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        build.build(config(**{place: "u:r:t:s0"}), ROOT, host, Wishes())
    assert caught.value.where == place.replace("__", ".")
    assert "not supported" in caught.value.detail


def test_the_working_directory_is_made_before_the_root_is_read_only() -> None:
    ops = plan(process__cwd="/srv/app", root__readonly=True)
    assert only(ops, "mkdir").fields["path"] == "/srv/app"
    assert before(ops, "mkdir", "root_readonly")
    assert "mkdir" not in names(plan(process__cwd="/."))
