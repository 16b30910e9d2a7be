"""Docker's notations for mounts, devices, limits and the like."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masu.engine import notation
from masu.engine.request import ContainerRequest, DeviceRequest, MountRequest, Ulimit
from masu.errors import InvalidArgument

CWD = "/work"


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("/data", MountRequest(kind="volume", target="/data", anonymous=True)),
        ("/a:/b", MountRequest(source="/a", target="/b", create_source=True)),
        ("/a/:/b/../c/", MountRequest(source="/a", target="/c", create_source=True)),
        ("./x:/b", MountRequest(source="/work/x", target="/b", create_source=True)),
        (".:/b:ro", MountRequest(source="/work", target="/b", create_source=True, readonly=True)),
        ("data:/b", MountRequest(kind="volume", source="data", target="/b")),
        ("data:/b:ro,nocopy", MountRequest(kind="volume", source="data", target="/b", readonly=True, nocopy=True)),
        ("/a:/b:rshared,z", MountRequest(source="/a", target="/b", create_source=True, propagation="rshared")),
        ("/data:ro", MountRequest(kind="volume", target="/data", anonymous=True, readonly=True)),
    ],
)
def test_volume(text: str, want: MountRequest) -> None:
    assert notation.volume(text, CWD) == want


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty section"),
        (":/b", "empty section"),
        ("a:b:c:d", "too many colons"),
        ("/a:b", "must be an absolute path"),
        ("/a:/", "can't be '/'"),
        ("/a:/b:rx", 'invalid mode "rx"'),
        ("/a:/b:rshard", 'did you mean "rshared"'),
        ("x:/b", "at least two"),
        ("sub/dir:/b", 'begins with ./: "./sub/dir"'),
        ("data:/b:shared", "binds of a host path only"),
        ("/a:/b:nocopy", "volumes only"),
    ],
)
def test_volume_refuses(text: str, words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        notation.volume(text, CWD)
    assert words in str(caught.value)
    assert caught.value.where == "--volume"


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("type=bind,source=/a,target=/b", MountRequest(source="/a", target="/b")),
        ("type=bind,src=./a,dst=/b,ro", MountRequest(source="/work/a", target="/b", readonly=True)),
        ("type=bind,src=/a,dst=/b,readonly=false", MountRequest(source="/a", target="/b")),
        ('type=bind,"src=/a,b",dst=/c', MountRequest(source="/a,b", target="/c")),
        ('type=bind,"src=/a""q",dst=/c', MountRequest(source='/a"q', target="/c")),
        (
            "type=bind,src=/a,dst=/b,bind-propagation=rslave,bind-recursive=disabled",
            MountRequest(source="/a", target="/b", propagation="rslave", recursive="disabled"),
        ),
        ("target=/v", MountRequest(kind="volume", target="/v", anonymous=True)),
        (
            "source=vol,target=/v,volume-nocopy,volume-subpath=a/b",
            MountRequest(kind="volume", source="vol", target="/v", nocopy=True, subpath="a/b"),
        ),
        (
            "type=tmpfs,target=/t,tmpfs-size=64m,tmpfs-mode=1770",
            MountRequest(kind="tmpfs", target="/t", size_bytes=64 << 20, mode="1770"),
        ),
    ],
)
def test_mount(text: str, want: MountRequest) -> None:
    assert notation.mount(text, CWD) == want


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("type=bind", "target is required"),
        ("type=bind,target=/b", "source is required"),
        ("type=bnd,target=/b", 'did you mean "bind"'),
        ("type=bind,source=a,target=/b", "must be an absolute path"),
        ("type=bind,sorce=/a,target=/b", 'unknown option "sorce" (did you mean "source"'),
        ("bind,target=/b", "not of the form key=value"),
        ("type=tmpfs,source=/a,target=/b", "no source"),
        ("type=tmpfs,target=/b,volume-nocopy", "cannot mix"),
        ("type=bind,source=/a,target=/b,ro=maybe", "want true or false"),
        ("type=tmpfs,target=/b,tmpfs-size=x", "invalid size"),
        ("type=tmpfs,target=/b,tmpfs-mode=9", "octal"),
        ("source=vol,target=/v,volume-subpath=../x", "below the volume"),
        ('type=bind,"source=/a', "unclosed quote"),
        ("type=volume,target=/v,volume-driver=nfs", 'only "local"'),
    ],
)
def test_mount_refuses(text: str, words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        notation.mount(text, CWD)
    assert words in str(caught.value)


def test_tmpfs() -> None:
    assert notation.tmpfs("/t") == MountRequest(kind="tmpfs", target="/t")
    assert notation.tmpfs("/t:size=64m,exec") == MountRequest(kind="tmpfs", target="/t", options=["size=64m", "exec"])
    for bad, words in (
        ("t", "absolute"),
        ("/t:siz=1", 'did you mean "size"'),
        ("/t:exc", "exec"),
        ("/t:size=q", "size"),
    ):
        with pytest.raises(InvalidArgument, match=words):
            notation.tmpfs(bad)


def test_device() -> None:
    assert notation.device("/dev/fuse") == DeviceRequest(source="/dev/fuse", target="/dev/fuse")
    assert notation.device("/dev/a:/dev/b:r") == DeviceRequest(source="/dev/a", target="/dev/b", permissions="r")
    assert notation.device("/dev/a:rw") == DeviceRequest(source="/dev/a", target="/dev/a", permissions="rw")
    for bad in ("", "dev/x", "/dev/x:y", "/dev/x:/y:rr", "/dev/x:/y:rwx", "/a:/b:r:w"):
        with pytest.raises(InvalidArgument, match="device"):
            notation.device(bad)


def test_ulimit() -> None:
    assert notation.ulimit("nofile=1024:2048") == Ulimit(name="nofile", soft=1024, hard=2048)
    assert notation.ulimit("core=0") == Ulimit(name="core", soft=0, hard=0)
    assert notation.ulimit("memlock=-1") == Ulimit(name="memlock", soft=-1, hard=-1)
    assert notation.ulimit("memlock=5:unlimited") == Ulimit(name="memlock", soft=5, hard=-1)
    for bad, words in (
        ("nofile", "want NAME"),
        ("nofil=1", 'did you mean "nofile"'),
        ("nofile=x", "not a number"),
        ("nofile=2:1", "greater"),
        ("nofile=-1:1", "greater"),
        ("nofile=1:", "not a number"),
    ):
        with pytest.raises(InvalidArgument, match=words):
            notation.ulimit(bad)


def test_environment_and_labels(tmp_path: Path) -> None:
    environ = {"HERE": "yes"}
    assert notation.env("A=1=2", environ) == "A=1=2"
    assert notation.env("HERE", environ) == "HERE=yes"
    assert notation.env("GONE", environ) == "GONE"
    for bad in ("", "=x"):
        with pytest.raises(InvalidArgument):
            notation.env(bad, environ)
    file = tmp_path / "env"
    file.write_bytes("\ufeff# words\nA=1\r\n\n  B=two words \nHERE\nGONE\n".encode())
    assert notation.env_file(str(file), environ) == ["A=1", "B=two words ", "HERE=yes"]
    for content, words in (
        (b"a b=1", "whitespaces"),
        (b"ok=1\n=x", ":2: .*no variable name"),
        (b"\xff=1", "not UTF-8"),
    ):
        file.write_bytes(content)
        with pytest.raises(InvalidArgument, match=words):
            notation.env_file(str(file), environ)
    with pytest.raises(InvalidArgument, match="ENOENT"):
        notation.env_file(str(tmp_path / "no"), environ)
    assert notation.label("a=b=c") == ("a", "b=c")
    assert notation.label("a") == ("a", "")
    file.write_text("x=1\n#y=2\nz\n")
    assert notation.label_file(str(file)) == [("x", "1"), ("z", "")]


def test_numbers_and_names() -> None:
    assert notation.cpus("1.5") == 1_500_000_000
    assert notation.cpus(".01") == 10_000_000
    assert notation.cpu_list("0-3,7") == "0-3,7"
    for bad in ("", "x", "0.001", "1.0000000001", "-1", "99999999"):
        with pytest.raises(ValueError, match=r"."):
            notation.cpus(bad)
    for bad in ("", "a", "3-1", "0,,1", "0-"):
        with pytest.raises(ValueError, match=r"."):
            notation.cpu_list(bad)
    assert notation.container_name("/web-1") == "web-1"
    for bad in ("", "a", "-x", "a b", "ab\n", "é1"):
        with pytest.raises(InvalidArgument):
            notation.container_name(bad)
    assert notation.sysctl("net.core.somaxconn=1") == ("net.core.somaxconn", "1")
    assert notation.sysctl("net/core/x=1") == ("net.core.x", "1")
    with pytest.raises(InvalidArgument):
        notation.sysctl("net.x")
    with pytest.raises(InvalidArgument):
        notation.hostname("a b")
    with pytest.raises(InvalidArgument):
        notation.workdir("x")


@given(st.text(alphabet='/a.:,=-~rosz"\0\n é', max_size=24))
def test_any_text_is_taken_or_refused(text: str) -> None:
    for parse in (lambda t: notation.volume(t, CWD), lambda t: notation.mount(t, CWD), notation.tmpfs, notation.device):
        try:
            parse(text)
        except InvalidArgument:
            continue


@given(st.text(alphabet="/ab:.", min_size=1, max_size=16))
def test_what_is_taken_has_a_clean_absolute_target(text: str) -> None:
    try:
        mount = notation.volume(text, CWD)
    except InvalidArgument:
        return
    assert mount.target.startswith("/")
    assert mount.target != "/"
    assert ".." not in mount.target.split("/")


def test_requests_survive_json() -> None:
    request = ContainerRequest(
        command=["a"],
        entrypoint=["b"],
        mounts=[MountRequest(target="/x")],
        oom_score_adj=0,
        ulimits=[Ulimit(name="core")],
    )
    data = request.to_json()
    assert ContainerRequest.from_json(data) == request
    assert ContainerRequest.from_json({"command": "not a list", "news": 1}) == ContainerRequest()
    assert ContainerRequest().to_json() == {}
    assert ContainerRequest().env is not ContainerRequest().env
