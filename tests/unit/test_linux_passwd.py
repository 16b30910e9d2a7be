from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masu.errors import InvalidArgument, MasuError, NotFound, ResourceExhausted
from masu.linux import passwd, paths

PASSWD = """root:x:0:0:root:/root:/bin/sh
daemon:x:1:1::/usr/sbin:/usr/sbin/nologin
redis:x:999:998:Redis:/var/lib/redis:/bin/false
twice:x:5:5::/first:
twice:x:6:6::/second:
short:x:7:7
broken:x:-1:0::/:
huge:x:4294967296:0::/:
minus:x:4294967295:0::/:
+::::::
evil:x:50:50::/home/e\x1b]0;x\x07:/bin/sh
relative:x:51:51::home:/bin/sh
plus:x:+52:52::/:
space:x: 53:53::/:
1234:x:77:77::/:
"""
GROUP = """root:x:0:
redis:x:998:
ssl:x:110:redis,www
video:x:44: redis
audio:x:29:redis2
bad:x:-1:redis
none:x:12
"""

Root = Callable[[str | None, str | None], int]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    opened: list[int] = []

    def make(users: str | None = PASSWD, groups: str | None = GROUP) -> int:
        (tmp_path / "etc").mkdir(exist_ok=True)
        for name, text in (("passwd", users), ("group", groups)):
            if text is not None:
                (tmp_path / "etc" / name).write_text(text)
        opened.append(paths.open_root(str(tmp_path)))
        return opened[-1]

    yield make
    for fd in opened:
        os.close(fd)


@pytest.mark.parametrize(
    ("spec", "uid", "gid", "groups", "name", "home"),
    [
        ("", 0, 0, (0,), "root", "/root"),
        ("root", 0, 0, (0,), "root", "/root"),
        ("0", 0, 0, (0,), "root", "/root"),
        ("redis", 999, 998, (998, 110, 44), "redis", "/var/lib/redis"),
        ("999", 999, 998, (998, 110, 44), "redis", "/var/lib/redis"),
        ("redis:video", 999, 44, (44,), "redis", "/var/lib/redis"),
        ("redis:7777", 999, 7777, (7777,), "redis", "/var/lib/redis"),
        ("1000", 1000, 0, (0,), "", "/"),
        ("1000:1001", 1000, 1001, (1001,), "", "/"),
        ("1000:ssl", 1000, 110, (110,), "", "/"),
        (":ssl", 0, 110, (110,), "root", "/root"),
        ("twice", 5, 5, (5,), "twice", "/first"),
        ("short", 7, 7, (7,), "short", "/"),
        ("evil", 50, 50, (50,), "evil", "/"),
        ("relative", 51, 51, (51,), "relative", "/"),
        ("0000", 0, 0, (0,), "root", "/root"),
        # Digits are an id, whoever is called so.
        ("1234", 1234, 0, (0,), "", "/"),
        ("4294967294", 4294967294, 0, (0,), "", "/"),
    ],
)
def test_users(root: Root, spec: str, uid: int, gid: int, groups: tuple[int, ...], name: str, home: str) -> None:
    user = passwd.resolve(root(PASSWD, GROUP), spec)
    assert (user.uid, user.gid, user.additional_gids, user.name, user.home) == (uid, gid, groups, name, home)


@pytest.mark.parametrize(
    "spec",
    ["4294967295", "4294967296", "18446744073709551616", "-1", "+0", " 0", "0 ", "0\n", "1:4294967296", "1:-1", "root:",
     "٠", "root\0", "a/b", "1:+5", ":", "9" * 1000, "root:0:0"],
)  # fmt: skip
def test_what_is_no_user_is_refused(root: Root, spec: str) -> None:
    """sec/CVE-2024-40635, sec/CVE-2026-30892: never user 0"""
    with pytest.raises(MasuError) as caught:
        passwd.resolve(root(PASSWD, GROUP), spec)
    assert isinstance(caught.value, InvalidArgument | NotFound)


@pytest.mark.parametrize("spec", ["nobody", "broken", "huge", "minus", "plus", "space", "redis:nogroup", "redis:bad"])
def test_names_that_are_not_there(root: Root, spec: str) -> None:
    with pytest.raises(NotFound, match="no matching entries"):
        passwd.resolve(root(PASSWD, GROUP), spec)


def test_added_groups(root: Root) -> None:
    fd = root(PASSWD, GROUP)
    assert passwd.resolve(fd, "redis", groups=["29", "video", "998"]).additional_gids == (998, 110, 44, 29)
    assert passwd.resolve(fd, "redis:7", groups=["ssl"]).additional_gids == (7, 110)
    with pytest.raises(NotFound, match="nosuch"):
        passwd.resolve(fd, "redis", groups=["nosuch"])


def test_an_image_without_the_files(root: Root) -> None:
    fd = root(None, None)
    assert passwd.resolve(fd, "").uid == 0
    assert passwd.resolve(fd, "5:6").gid == 6
    assert passwd.home(fd, 0) == ""
    assert passwd.name_of(fd, 0) == ""
    with pytest.raises(NotFound):
        passwd.resolve(fd, "root")


def test_home_and_name(root: Root) -> None:
    fd = root(PASSWD, GROUP)
    assert passwd.home(fd, 999) == "/var/lib/redis"
    assert passwd.home(fd, 50) == "/"
    assert passwd.name_of(fd, 999) == "redis"


def test_files_of_any_size_are_not_read(root: Root, tmp_path: Path) -> None:
    """sec/CVE-2025-4437, sec/CVE-2023-25153"""
    fd = root(PASSWD, GROUP)
    os.truncate(tmp_path / "etc/passwd", 1 << 40)
    with pytest.raises(ResourceExhausted):
        passwd.resolve(fd, "redis")
    assert passwd.home(fd, 0) == ""


def test_links_do_not_lead_to_the_host(root: Root, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").symlink_to("/../../../../../etc/passwd.host")
    (tmp_path / "etc/passwd.host").write_text("inside:x:5:5::/:\n")
    assert passwd.resolve(root(None, None), "inside").uid == 5


def test_a_fifo_does_not_hang_us(root: Root, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc/passwd")
    with pytest.raises(MasuError):
        passwd.resolve(root(None, None), "0")


@given(st.binary(max_size=200))
def test_any_line_is_an_entry_or_none(line: bytes) -> None:
    for parse in (passwd.parse_passwd_line, passwd.parse_group_line):
        entry = parse(line)
        if entry is not None:
            assert 0 <= entry.id <= passwd.MAX_ID
            assert 0 <= entry.gid <= passwd.MAX_ID
            assert entry.home.isprintable()


@given(spec=st.text(alphabet="0123456789:+-rot ٣x", max_size=14))
def test_user_0_is_only_who_is_called_so(spec: str) -> None:
    # Against the real root's own files: every machine has them, and a root.
    fd = paths.open_root("/")
    try:
        user = passwd.resolve(fd, spec)
    except (InvalidArgument, NotFound):
        return
    finally:
        os.close(fd)
    word = spec.partition(":")[0]
    assert (user.uid == 0) == (word in ("", "root") or (word.isdecimal() and int(word) == 0))
