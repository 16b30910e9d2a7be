"""The same lines of ctr at masud and at Debian's containerd: the same status, the same words.

Each session begins with empty namespaces of its own. What may differ is in DIFFERENT, with the reason; all else is the
same, once paths, times and the order of labels (Go's, of maps) are taken out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.callers.archives import archive
from harness.masud import COLLECT_WHEN_ASKED, Containerd, Ctr, Masud

pytestmark = pytest.mark.root

IMAGE = "docker.io/library/busybox:latest"
HELLO = "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
IMPORT = "images import --base-name docker.io/library/busybox {archive}"

SESSIONS = {
    "namespaces": f"""
        ns ls
        ns create one a=b
        ns create one
        ns label one c=d
        ns label one a=
        ns ls
        ns ls -q
        ns rm one
        ns rm one
        ns create bad/name
        ns label two a=b
        ns ls
        ns rm two
        --namespace three leases create --id x
        ns rm three
        --namespace four {IMPORT}
        ns rm four
        --namespace four images rm --sync {IMAGE}
        ns rm four
    """,
    "images": f"""
        {IMPORT}
        images ls
        images ls -q
        images check
        images tag {IMAGE} foo/bar:1
        images tag {IMAGE} foo/bar:1
        images tag --force {IMAGE} foo/bar:1
        images tag nothing foo/bar:2
        images label foo/bar:1 a=b
        images label foo/bar:1 a=
        images ls
        images ls labels.a==b
        images ls name~=busy
        images ls name==foo/bar:1,target.mediatype
        images rm foo/bar:1
        images rm foo/bar:1
        images rm nothing
        images export {{folder}}/{{who}}.tar {IMAGE}
        images import {{folder}}/{{who}}.tar
        images convert --uncompress {IMAGE} plain:1
        images ls
        images rm --sync {IMAGE} plain:1
        images ls
        content ls -q
        snapshots ls
    """,
    "content": f"""
        {IMPORT}
        content ls
        content get {{digest}}
        content get sha256:{"0" * 64}
        content get nothing
        content label {{digest}} a=b
        content ls labels.a==b
        content label {{digest}} a=
        content rm sha256:{"0" * 64}
        content ingest one < hello
        content ingest one < hello
        content ingest --expected-digest sha256:{HELLO} two < hello
        content ingest --expected-digest sha256:{"0" * 64} three < hello
        content ingest --expected-size 3 four < hello
        content get {HELLO}
        content active
        content edit --editor true {{digest}}
        content edit --editor false {{digest}}
        content rm {{digest}}
        content get {{digest}}
    """,
    "snapshots": f"""
        {IMPORT}
        snapshots ls
        snapshots info {{chain}}
        snapshots usage
        snapshots tree
        snapshots prepare one {{chain}}
        snapshots prepare one {{chain}}
        snapshots prepare two nothing
        snapshots view three {{chain}}
        snapshots prepare four one
        snapshots view four three
        snapshots mounts /mnt one
        snapshots mounts /mnt three
        snapshots mounts /mnt {{chain}}
        snapshots mounts /mnt none
        snapshots tree
        snapshots label one a=b
        snapshots ls
        snapshots rm {{chain}}
        snapshots rm none
        snapshots commit committed one
        snapshots commit other three
        snapshots info committed
        snapshots info none
        snapshots unpack {{digest}}
        snapshots --snapshotter nothing ls
        snapshots --snapshotter native ls
        snapshots rm three
        snapshots rm committed
        snapshots ls
    """,
    "leases": """
        leases ls
        leases create --id one a=b
        leases create --id one
        leases create --id two -x 1h
        leases ls -q
        leases ls labels.a==b -q
        leases rm one
        leases rm one
        leases rm --sync two
        leases ls
    """,
    "containers": f"""
        {IMPORT}
        containers ls
        containers create {IMAGE} one true
        containers create {IMAGE} one true
        containers create nothing two true
        containers create --label x=y --env A=b --net-host --cwd /tmp {IMAGE} two sh -e
        containers create {IMAGE} bad/name true
        containers ls
        containers ls -q
        containers ls -q labels.x==y
        containers info one
        containers info two
        containers info none
        containers label one a=b
        containers label one a=
        containers rm none
        containers rm one
        containers rm --keep-snapshot two
        snapshots ls
        containers ls
    """,
    "mistakes": """
        images ls name=x
        images ls labels.
        content ls bad==
        content ls labels.x/y
        containers ls "x
        snapshots ls
    """,
    "mounts": f"""
        {IMPORT}
        images mount {IMAGE} {{folder}}/{{who}}-mount
        images unmount --rm {{folder}}/{{who}}-mount
        images mount --rw {IMAGE} {{folder}}/{{who}}-mount
        images unmount --rm {{folder}}/{{who}}-mount
        images mount nothing {{folder}}/{{who}}-mount
        snapshots ls
    """,
}  # fmt: skip

# (a line of ctr begins so): why it may differ in words; the status is the same all the same.
DIFFERENT = {
    "ns create bad/name": "the rule for names is said in other words",
    "containers create docker.io/library/busybox:latest bad/name": "likewise",
    "snapshots mounts /mnt sha256:": "the mistake is the same, containerd tells its internal key",
    "snapshots prepare four one": "containerd tells its internal key",
    "snapshots view four three": "likewise",
    "snapshots rm sha256:": "we say which snapshot is built on it",
    "snapshots commit other three": "of a view containerd's message differs with the snapshotter",
    "content ingest --expected-size 3": "we stop at the byte that is too many, containerd at the commit",
    "content active": "likewise: what has arrived differs",
    "images ls name=x": "1.6 says invalid argument twice",
    "images ls labels.": "likewise",
    "content ls bad==": "likewise",
    "content ls labels.x/y": "likewise",
    'containers ls "x': "likewise",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("beside")


@pytest.fixture(scope="module")
def masud(folder: Path) -> Iterator[Masud]:
    (folder / "masud").mkdir()
    with Masud(folder / "masud", "version = 2\n" + COLLECT_WHEN_ASKED) as it:
        yield it


@pytest.fixture(scope="module")
def containerd(folder: Path) -> Iterator[Containerd]:
    (folder / "containerd").mkdir()
    with Containerd(folder / "containerd", COLLECT_WHEN_ASKED) as it:
        yield it


class Session:
    """Runs lines at one of the two and gives what was said in a form that can be compared."""

    def __init__(self, ctr: Ctr, who: str, namespace: str, folder: Path) -> None:
        self._ctr = ctr
        # One each: a namespace is a part of the cgroup's path as well.
        self._namespace = f"{namespace}-{who}"
        self._words = {"who": who, "folder": str(folder), "digest": "", "chain": ""}
        self._folder = folder
        (folder / f"{who}-mount").mkdir(exist_ok=True)

    def run(self, line: str) -> tuple[int, str]:
        line = line.replace("{archive}", str(archive("busybox", self._folder)))
        for name in ("digest", "chain"):
            if f"{{{name}}}" in line and not self._words[name]:
                self._words[name] = self._find(name)
        for name, value in self._words.items():
            line = line.replace(f"{{{name}}}", value)
        line, redirected, _ = line.partition(" < ")
        input = b"hello\n" if redirected else None
        done = self._ctr.try_(*line.split(), namespace=self._namespace, input=input)
        return done.returncode, self._same(done.stdout + done.stderr)

    def _find(self, name: str) -> str:
        if name == "digest":
            return self._ctr("images", "ls", namespace=self._namespace).splitlines()[1].split()[2]
        return self._ctr("snapshots", "ls", namespace=self._namespace).splitlines()[1].split()[0]

    def _same(self, text: str) -> str:
        text = re.sub(r"\S*/snapshots/(?:overlayfs/)?\d+/", "SNAPSHOT/", text)
        text = text.replace(f"/{self._words['who']}", "/WHO").replace(f"-{self._words['who']}", "-WHO")
        text = re.sub(r"\d{4}-\d\d-\d\d[T ][\d:.]+(?:Z| \+0000 UTC)", "TIME", text)
        text = re.sub(r"elapsed: \S+|(?:\d+(?:\.\d+)?[mµn]?s)\b|Less than a second|\d+ seconds?", "AGE", text)
        return "\n".join(" ".join(self._labels(word) for word in line.split()) for line in text.splitlines())

    @staticmethod
    def _labels(word: str) -> str:
        return ",".join(sorted(word.split(","))) if "=" in word and not word.startswith("{") else word


@pytest.mark.parametrize("name", SESSIONS)
def test_session(masud: Masud, containerd: Containerd, tmp_path: Path, name: str) -> None:
    ours = Session(masud, "masud", name, tmp_path)
    theirs = Session(containerd, "containerd", name, tmp_path)
    wrong = []
    for line in filter(None, map(str.strip, SESSIONS[name].splitlines())):
        (our_status, our_words), (their_status, their_words) = ours.run(line), theirs.run(line)
        full = line.replace("{chain}", "sha256:").replace("{digest}", "sha256:")
        if our_status == their_status and any(full.startswith(known) for known in DIFFERENT):
            continue
        if (our_status, our_words) != (their_status, their_words):
            wrong.append(f"{line}\n  ours: {our_status} {our_words}\n  theirs: {their_status} {their_words}")
    assert not wrong, "\n".join(wrong)
