from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masu.errors import InvalidArgument
from masu.linux import mount, mountinfo
from masu.linux.idmap import Mapping

WHERE = "mounts[3].options"

# config-linux.md and runc's `features`, without what is crun's alone.
RUNC_FEATURES = [
    "async", "atime", "bind", "defaults", "dev", "diratime", "dirsync", "exec", "iversion", "lazytime", "loud",
    "mand", "noatime", "nodev", "nodiratime", "noexec", "noiversion", "nolazytime", "nomand", "norelatime",
    "nostrictatime", "nosuid", "nosymfollow", "rbind", "relatime", "remount", "ro", "rw", "silent", "strictatime",
    "suid", "sync", "symfollow", "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable",
    "runbindable", "rro", "rrw", "rnosuid", "rsuid", "rnodev", "rdev", "rnoexec", "rexec", "rnodiratime",
    "rdiratime", "rrelatime", "rnorelatime", "rnoatime", "ratime", "rstrictatime", "rnostrictatime",
    "rnosymfollow", "rsymfollow", "tmpcopyup", "idmap", "ridmap",
]  # fmt: skip


def parse(*options: str) -> mount.MountOptions:
    return mount.parse_options(options, WHERE)


def test_every_option_of_runc_is_known() -> None:
    assert set(RUNC_FEATURES) <= set(mount.known_options())
    for word in RUNC_FEATURES:
        assert parse(word).data == ()


def test_flags_are_attributes_and_superblock_words() -> None:
    options = parse("ro", "nosuid", "nodev", "noexec", "sync", "mode=755", "size=64k")
    assert options.attr_set == 0xF
    assert options.attr_clr == 0
    assert options.sb_options == ("ro", "sync")
    assert options.data == ("mode=755", "size=64k")


def test_the_last_word_wins() -> None:
    options = parse("ro", "nosuid", "sync", "rw", "suid", "async")
    assert options.attr_set == 0
    assert options.attr_clr == mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID
    assert options.sb_options == ()


def test_clearing_words_reach_the_file_system_in_a_remount() -> None:
    assert parse("remount", "rw", "async").sb_options == ("rw", "async")


@pytest.mark.parametrize(
    ("words", "choice"),
    [
        (("noatime",), mount.MOUNT_ATTR_NOATIME),
        (("strictatime",), mount.MOUNT_ATTR_STRICTATIME),
        (("relatime",), mount.MOUNT_ATTR_RELATIME),
        (("noatime", "atime"), mount.MOUNT_ATTR_RELATIME),
        (("strictatime", "atime"), mount.MOUNT_ATTR_STRICTATIME),
        (("strictatime", "nostrictatime"), mount.MOUNT_ATTR_RELATIME),
        (("noatime", "nostrictatime"), mount.MOUNT_ATTR_NOATIME),
        (("noatime", "strictatime"), mount.MOUNT_ATTR_STRICTATIME),
    ],
)
def test_the_access_time_is_one_choice_of_three(words: tuple[str, ...], choice: int) -> None:
    # mount_setattr(2): EINVAL unless the whole field is cleared.
    options = parse(*words)
    assert (options.attr_set, options.attr_clr) == (choice, mount.MOUNT_ATTR__ATIME)
    recursive = parse(*("r" + word for word in words))
    assert (recursive.rec_attr_set, recursive.rec_attr_clr) == (choice, mount.MOUNT_ATTR__ATIME)
    assert (recursive.attr_set, recursive.attr_clr) == (0, 0)


def test_recursive_flags_leave_the_others_alone() -> None:
    options = parse("rbind", "rro", "rnosuid", "rexec", "ro")
    assert options.rec_attr_set == mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID
    assert options.rec_attr_clr == mount.MOUNT_ATTR_NOEXEC
    assert options.attr_set == mount.MOUNT_ATTR_RDONLY
    assert options.bind
    assert options.recursive


def test_propagation_keeps_its_order() -> None:
    slave, shared = mount.MS_SLAVE | mount.MS_REC, mount.MS_SHARED
    assert parse("rslave", "shared").propagation == (slave, shared)


def test_extensions() -> None:
    options = parse("tmpcopyup", "copy-symlink", "dest-nofollow", "src-nofollow", "ridmap")
    assert options.tmpcopyup
    assert options.copy_symlink
    assert options.dest_nofollow
    assert options.src_nofollow
    assert options.idmap
    assert options.idmap_recursive


def test_options_joined_by_commas_are_taken_apart() -> None:
    options = parse("nosuid,nodev,mode=1777", "lowerdir=/a\\,b:/c", 'context="system_u:object_r:x:s0:c1,c2"')
    assert options.attr_set == mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV
    # overlayfs takes the backslash away itself; SELinux's quotes are mount(8)'s.
    assert options.data == ("mode=1777", "lowerdir=/a\\,b:/c", "context=system_u:object_r:x:s0:c1,c2")


@pytest.mark.parametrize("word", ["nousid", "nosudi", "noexe", "noatme", "rprivat", "relatimee", "nosymfolow"])
def test_a_slip_is_named(word: str) -> None:
    with pytest.raises(InvalidArgument, match=r"mounts\[3\]\.options\[1\].*did you mean"):
        parse("ro", word)


@pytest.mark.parametrize(
    "word", ["newinstance", "ptmxmode=0666", "i_version", "hidepid=2", "noswap", "xattr", "none", "name=systemd",
             "memory", "volatile", "userxattr", "discard", "nodelalloc", "inode64", "subset=pid", "acl", "noacl"]
)  # fmt: skip
def test_options_of_file_systems_pass(word: str) -> None:
    assert parse(word).data == (word,)


@pytest.mark.parametrize("word", ["nosiud", "roo", "exec=1", "rbnd"])
def test_binds_take_no_near_misses(word: str) -> None:
    with pytest.raises(InvalidArgument, match=r"bind mounts have no options of a file system.*did you mean"):
        parse("rbind", word)


def test_idmap_of_crun() -> None:
    options = parse("idmap=uids=0-1-10#10-11-10;gids=@0-100-10")
    assert options.idmap_uids == "0 1 10\n10 11 10\n"
    assert options.idmap_gids == "@0 100 10\n"


@pytest.mark.parametrize(
    "value", ["uids=0-1", "uids=a-b-c", "uids=0-1-0", "uids=0-4294967295-2", "pids=0-1-1", "", "uids=0-1-10;;"]
)
def test_bad_idmaps_are_refused(value: str) -> None:
    with pytest.raises(InvalidArgument, match=r"mounts\[3\]\.options\[0\]"):
        parse("idmap=" + value)


def test_relative_idmaps_follow_the_container() -> None:
    # The example of crun(1): 3 is in the container's second range, whose ids are one higher on the host.
    mappings = [Mapping(0, 0, 1), Mapping(1, 2, 1000)]
    assert mount.resolve_idmap("@1 3 10\n5 6 7\n", mappings, "w") == "1 4 10\n5 6 7\n"
    with pytest.raises(InvalidArgument, match="not inside one mapping"):
        mount.resolve_idmap("@1 995 10\n", mappings, "w")


@given(st.lists(st.text(max_size=20), max_size=10))
def test_any_text_is_parsed_or_refused(options: list[str]) -> None:
    try:
        parsed = parse(*options)
    except InvalidArgument:
        return
    assert not parsed.attr_set & parsed.attr_clr & ~mount.MOUNT_ATTR__ATIME
    assert not any("," in word and '"' not in word and "\\" not in word for word in parsed.data)


@given(st.lists(st.sampled_from(mount.known_options()), max_size=30))
def test_known_words_never_become_data(options: list[str]) -> None:
    parsed = parse(*options)
    assert parsed.data == ()
    for value in (parsed.attr_set, parsed.rec_attr_set):
        # At most one access time.
        assert value & mount.MOUNT_ATTR__ATIME in (0, mount.MOUNT_ATTR_NOATIME, mount.MOUNT_ATTR_STRICTATIME)


def test_lowerdir_is_split_as_overlayfs_does() -> None:
    assert mount.split_lowerdir("/a:/b\\:c:/d\\\\e") == ["/a", "/b:c", "/d\\e"]


def test_mountinfo_lines() -> None:
    text = (
        b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n"
        b"37 36 0:45 / /with\\040space\\134x rw shared:7 master:2 propagate_from:1 - fuse.sshfs a\\011b rw\n"
        b"38 36 0:46 / /u rw unbindable - tmpfs  rw,size=1k\n"
        b"from a kernel of another day\n"
    )
    first, second, third = mountinfo.parse(text)
    assert (first.id, first.parent, first.device, first.root) == (36, 35, (98, 0), "/mnt1")
    assert (first.mount_point, first.options, first.master, first.shared) == ("/mnt2", "rw,noatime", 1, 0)
    assert (first.fstype, first.source, first.super_options) == ("ext3", "/dev/root", "rw,errors=continue")
    assert second.mount_point == "/with space\\x"
    assert second.source == "a\tb"
    assert (second.shared, second.master) == (7, 2)
    assert third.unbindable
    assert third.source == ""


def test_own_mountinfo_has_a_root() -> None:
    assert any(item.mount_point == "/" for item in mount.mountinfo())


@given(st.binary(max_size=400))
def test_mountinfo_takes_any_bytes(text: bytes) -> None:
    mountinfo.parse(text)


@given(st.text(alphabet=st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=30))
def test_mountinfo_unescapes_what_the_kernel_escapes(name: str) -> None:
    escaped = "".join(f"\\{ord(char):03o}" if char in " \t\n\\#" else char for char in name)
    line = f"36 35 98:0 / /{escaped} rw - ext3 x rw"
    assert mountinfo.MountInfo(line).mount_point == "/" + name
