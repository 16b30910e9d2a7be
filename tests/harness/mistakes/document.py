"""The bundle, its config.json as a document, and what it says of security and namespaces."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.mistakes import Change, Done, Mistake, Scene, both, joined, put, run, without_namespace
from harness.programs import peer


def _text(change: Callable[[str], str]) -> Callable[[Scene], Done]:
    """config.json as text, changed."""

    def make(scene: Scene) -> Done:
        scene.write()
        path = scene.bundle / "config.json"
        path.write_text(change(path.read_text()))
        return scene.born("run")

    return make


def _without_config(scene: Scene) -> Done:
    scene.write()
    (scene.bundle / "config.json").unlink()
    id = scene.runtime.id()
    scene.unborn.append(id)
    return scene("run", "--bundle", str(scene.bundle), id)


def _without_bundle(scene: Scene) -> Done:
    return scene("run", "--bundle", str(scene.folder / "bundel"), scene.runtime.id())


def _namespace_of_the_dead(scene: Scene) -> Done:
    """A pid namespace that is kept by a bind mount when its first process has gone."""
    kept = scene.folder / "pidns"
    kept.touch()
    # The first process of the new namespace is a `true` of the shell's; when it has ended nobody can be born there.
    script = f"{peer('true')}; exec {peer('mount')} --bind /proc/self/ns/pid_for_children {kept}"
    subprocess.run([peer("unshare"), "--pid", "sh", "-c", script], check=True)
    scene.undo.callback(subprocess.run, [peer("umount"), str(kept)], check=True)
    return scene.born("run", change=joined("pid", str(kept)))


def _users(**fields: object) -> Change:
    def change(config: dict[str, Any], scene: Scene) -> None:
        config["linux"]["namespaces"].append({"type": "user"})
        config["linux"].update(fields)

    return change


def _seccomp(**fields: object) -> Change:
    return put("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", **fields})


def _capability(name: str) -> Change:
    def change(config: dict[str, Any], scene: Scene) -> None:
        config["process"]["capabilities"]["bounding"].append(name)

    return change


_MAPPING = {"containerID": 0, "hostID": 100000, "size": 65536}
_OVERLAP = [_MAPPING, {"containerID": 1000, "hostID": 300000, "size": 10}]


def _no_apparmor() -> str:
    return "this kernel has AppArmor" if Path("/sys/module/apparmor/parameters/enabled").exists() else ""


def _no_selinux() -> str:
    return "this machine has SELinux" if os.path.ismount("/sys/fs/selinux") else ""


MISTAKES = (
    Mistake(
        "a bundle that is not there",
        _without_bundle,
        "--bundle",
        "/tmp/bundel",
        "no such file or directory",
    ),
    Mistake(
        "a bundle without config.json",
        _without_config,
        "--bundle",
        "config.json not found",
        "masu-oci spec",
    ),
    Mistake(
        "a config.json that is not JSON",
        _text(lambda text: text.replace('"hostname":', '"hostname"', 1).replace(', "process"', ',\n"process"', 1)),
        "config.json",
        "line 2, column",
        "':'",
    ),
    Mistake(
        "a comma too many",
        _text(lambda text: text[:-1] + ",}"),
        "config.json",
        "line 1, column",
        "a comma too many before it, seen }",
    ),
    Mistake(
        "a config.json that ends in the middle",
        _text(lambda text: text[:40]),
        "config.json",
        "line 1, column 37",
        "unterminated string",
    ),
    Mistake(
        "a value of a wrong type",
        run(put("process.args", "/bin/sh")),
        "process.args",
        "wanted a list of strings",
        '"/bin/sh"',
    ),
    Mistake(
        "a number as text",
        run(put("process.user", {"uid": "0", "gid": 0})),
        "process.user.uid",
        "wanted a number",
        '"0"',
    ),
    Mistake(
        "no ociVersion",
        run(lambda config, scene: config.pop("ociVersion")),
        "ociVersion",
        "must be given",
    ),
    Mistake(
        "an ociVersion that is too old",
        run(put("ociVersion", "0.3.0")),
        "ociVersion",
        "0.3.0",
        "supported are 0.4 to 1.x",
    ),
    Mistake(
        "a config.json for Windows",
        run(put("windows", {"layerFolders": ["c"]})),
        "windows",
        "this runtime makes Linux containers",
    ),
    Mistake(
        "an unknown capability",
        run(_capability("CAP_SYS_ADMIM")),
        "process.capabilities.bounding",
        "CAP_SYS_ADMIM",
        'did you mean "CAP_SYS_ADMIN"?',
        status=0,
    ),
    Mistake(
        "a bad seccomp action",
        run(_seccomp(defaultAction="SCMP_ACT_DENY")),
        "linux.seccomp.defaultAction",
        "SCMP_ACT_DENY",
        "SCMP_ACT_ERRNO",
    ),
    Mistake(
        "an unknown seccomp architecture",
        run(_seccomp(architectures=["SCMP_ARCH_AMD64"])),
        "linux.seccomp.architectures[0]",
        "SCMP_ARCH_AMD64",
        "SCMP_ARCH_X86_64",
    ),
    Mistake(
        "an unknown system call in a seccomp filter",
        run(_seccomp(syscalls=[{"names": ["opennat"], "action": "SCMP_ACT_ERRNO"}])),
        "linux.seccomp",
        "opennat",
        "ignored",
        status=0,
    ),
    Mistake(
        "seccomp notify without a listener's path",
        run(_seccomp(syscalls=[{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}])),
        "linux.seccomp",
        "listenerPath",
        "SCMP_ACT_NOTIFY",
    ),
    Mistake(
        "seccomp notify when nobody listens",
        run(_seccomp(syscalls=[{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}], listenerPath="/none.sock")),
        "linux.seccomp.listenerPath",
        "failed to connect with seccomp agent",
        "/none.sock",
        "ENOENT",
        "listening",
    ),
    Mistake(
        "an AppArmor profile where there is no AppArmor",
        run(put("process.apparmorProfile", "docker-default")),
        "process.apparmorProfile",
        "docker-default",
        "apparmor not supported",
        "leave the profile out",
        why_not=_no_apparmor,
    ),
    Mistake(
        "an SELinux label where there is no SELinux",
        run(put("process.selinuxLabel", "system_u:system_r:container_t:s0")),
        "process.selinuxLabel",
        "selinux is disabled or not supported",
        "leave the label out",
        why_not=_no_selinux,
    ),
    Mistake(
        "an SELinux label of mounts where there is no SELinux",
        run(put("linux.mountLabel", "system_u:object_r:container_file_t:s0")),
        "linux.mountLabel",
        "selinux is disabled or not supported",
        "leave the label out",
        why_not=_no_selinux,
    ),
    Mistake(
        "exec with an SELinux label where there is no SELinux",
        lambda scene: scene(
            "exec",
            "--process-label",
            "system_u:system_r:container_t:s0",
            scene.container("running"),
            "/bin/probe",
            "exit",
            "0",
        ),
        "--process-label",
        "selinux is disabled or not supported",
        status=255,
        why_not=_no_selinux,
    ),
    Mistake(
        "exec with an AppArmor profile where there is no AppArmor",
        lambda scene: scene(
            "exec", "--apparmor", "docker-default", scene.container("running"), "/bin/probe", "exit", "0"
        ),
        "--apparmor",
        "apparmor not supported",
        status=255,
        why_not=_no_apparmor,
    ),
    Mistake(
        "a namespace of an unknown type",
        run(lambda config, scene: config["linux"]["namespaces"].append({"type": "net"})),
        "linux.namespaces[5].type",
        "net",
        'did you mean "network"?',
    ),
    Mistake(
        "a namespace given twice",
        run(lambda config, scene: config["linux"]["namespaces"].append({"type": "uts"})),
        "linux.namespaces[5]",
        "uts",
    ),
    Mistake(
        "a namespace to join that is not there",
        run(joined("network", "/run/netns/nobody")),
        "linux.namespaces[4].path",
        "open",
        "/run/netns/nobody",
        "ENOENT",
    ),
    Mistake(
        "a namespace of another kind",
        run(joined("network", "/proc/self/ns/uts")),
        "linux.namespaces[4].path",
        "setns",
        "EINVAL: Invalid argument",
        "of type uts, not network",
        "correct",
    ),
    Mistake(
        "a file that is no namespace",
        run(joined("network", "/etc/hostname")),
        "linux.namespaces[4].path",
        "setns /etc/hostname",
        "EINVAL",
        "it is not a namespace",
        "/proc/PID/ns",
    ),
    Mistake(
        "a pid namespace whose first process has ended",
        _namespace_of_the_dead,
        "linux.namespaces[4].path",
        "clone3",
        "ENOMEM",
        "pid namespace",
        "has ended",
    ),
    Mistake(
        "a host name without a uts namespace",
        run(without_namespace("uts")),
        "hostname",
        "unable to set hostname without a private UTS namespace",
        '{"type": "uts"}',
    ),
    Mistake(
        "a user namespace without mappings",
        run(_users()),
        "linux.uidMappings",
        "user namespaces enabled, but no",
        "mappings",
        "containerID",
    ),
    Mistake(
        "mappings without a user namespace",
        run(put("linux.uidMappings", [_MAPPING])),
        "linux.uidMappings",
        "user namespace isn't enabled in the config",
        '{"type": "user"}',
    ),
    Mistake(
        "mappings that overlap",
        run(_users(uidMappings=_OVERLAP, gidMappings=[_MAPPING])),
        "linux.uidMappings[1]",
        "overlaps",
        "linux.uidMappings[0]",
    ),
    Mistake(
        "a user that is not mapped",
        run(both(_users(uidMappings=[_MAPPING], gidMappings=[_MAPPING]), put("process.user.uid", 70000))),
        "process.user",
        "setresuid",
        "70000",
        "EINVAL",
        "not mapped",
        "linux.uidMappings",
    ),
)
