"""Platforms and the choice from an index, as containerd/platforms has them."""

from __future__ import annotations

import os
from typing import Any

import pytest

from masu.errors import InvalidArgument, NotFound
from masu.spec import platform
from masu.spec.image import Descriptor
from masu.spec.platform import Platform

HOST = platform.host()

# specifier: (parsed, normalised)
PARSED = {
    "linux/amd64": ("linux/amd64", "linux/amd64"),
    "linux/x86_64": ("linux/amd64", "linux/amd64"),
    "Linux/AMD64": ("linux/amd64", "linux/amd64"),
    "linux/amd64/v1": ("linux/amd64", "linux/amd64"),
    "linux/amd64/v3": ("linux/amd64/v3", "linux/amd64/v3"),
    "linux/i386": ("linux/386", "linux/386"),
    "linux/aarch64": ("linux/arm64", "linux/arm64"),
    "linux/arm64": ("linux/arm64", "linux/arm64"),
    "linux/arm64/v8": ("linux/arm64/v8", "linux/arm64"),
    "linux/arm64/8": ("linux/arm64/v8", "linux/arm64"),
    "linux/arm64/v8.2": ("linux/arm64/v8.2", "linux/arm64/v8.2"),
    "linux/arm64/v9.0": ("linux/arm64/v9", "linux/arm64/v9"),
    "linux/arm": ("linux/arm", "linux/arm/v7"),
    "linux/arm/7": ("linux/arm/v7", "linux/arm/v7"),
    "linux/arm/v6": ("linux/arm/v6", "linux/arm/v6"),
    "linux/armhf": ("linux/arm", "linux/arm/v7"),
    "linux/armel": ("linux/arm/v6", "linux/arm/v6"),
    "linux/unheard-of": ("linux/unheard-of", "linux/unheard-of"),
    "macos/arm64": ("darwin/arm64", "darwin/arm64"),
    "windows(10.0.17763)/amd64": ("windows(10.0.17763)/amd64", "windows(10.0.17763)/amd64"),
    "windows(10.0+win32k)/amd64": ("windows(10.0+win32k)/amd64", "windows(10.0+win32k)/amd64"),
}


@pytest.mark.parametrize("text", PARSED)
def test_parse(text: str) -> None:
    parsed = platform.parse(text)
    assert (str(parsed), str(platform.normalize(parsed))) == PARSED[text]
    assert platform.normalize(platform.normalize(parsed)) == platform.normalize(parsed)


def test_half_a_platform_is_completed_from_the_host() -> None:
    assert platform.parse("linux").architecture == HOST.architecture
    assert str(platform.parse("arm64")) == "linux/arm64"
    assert str(platform.parse("arm")) == "linux/arm"
    assert platform.parse("freebsd").os == "freebsd"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no name"),
        ("/", "no name"),
        ("linux/", "no name"),
        ("linux//v8", "no name"),
        ("linux/*", "no name"),
        ("linux/a/b/c", "os[/architecture[/variant]]"),
        ("linux/arm\n", "no name"),
        ("linux/..", "no name"),
        ("li.nux/arm", "no name"),
        ("windows(10/amd64", "parenthesis"),
        ("amd6", 'did you mean "amd64"?'),
        ("linus", 'did you mean "linux"?'),
        ("x" * 300, "os[/architecture[/variant]]"),
    ],
)
def test_parse_refuses(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        platform.parse(text)
    assert message in str(caught.value)


def test_host() -> None:
    machines = {"x86_64": "amd64", "aarch64": "arm64", "riscv64": "riscv64"}
    assert HOST.os == "linux"
    assert machines.get(os.uname().machine, HOST.architecture) == HOST.architecture


@pytest.mark.parametrize(
    ("wanted", "order"),
    [
        ("linux/amd64", "linux/amd64 linux/386"),
        ("linux/amd64/v3", "linux/amd64/v3 linux/amd64/v2 linux/amd64 linux/386"),
        ("linux/arm/v7", "linux/arm/v7 linux/arm/v6 linux/arm/v5"),
        ("linux/arm", "linux/arm/v7 linux/arm/v6 linux/arm/v5"),
        ("linux/arm/v5", "linux/arm/v5"),
        ("linux/arm64", "linux/arm64 linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5"),
        (
            "linux/arm64/v9",
            "linux/arm64/v9 linux/arm64/v8.5 linux/arm64/v8.4 linux/arm64/v8.3 linux/arm64/v8.2 linux/arm64/v8.1 "
            "linux/arm64 linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5",
        ),
        ("linux/arm64/odd", "linux/arm64/odd"),
        ("linux/riscv64", "linux/riscv64"),
        ("linux/386", "linux/386"),
    ],
)
def test_fallbacks(wanted: str, order: str) -> None:
    assert " ".join(map(str, platform.fallbacks(platform.parse(wanted)))) == order


def entry(text: str | None, number: int = 0, **annotations: str) -> Descriptor:
    parts: Any = text.split("/") if text else []
    return Descriptor(
        media_type="application/vnd.oci.image.manifest.v1+json",
        digest=f"sha256:{number:064x}",
        size=1,
        platform=Platform(*parts) if text else None,
        annotations=annotations,
    )


def index(*platforms: str | None) -> list[Descriptor]:
    return [entry(text, number) for number, text in enumerate(platforms)]


@pytest.mark.parametrize(
    ("offered", "wanted", "chosen"),
    [
        (["linux/amd64", "linux/arm64"], "linux/arm64", 1),
        (["linux/386", "linux/amd64"], "linux/amd64", 1),
        (["linux/386", "linux/s390x"], "linux/amd64", 0),
        (["linux/amd64/v3", "linux/amd64/v2", "linux/amd64"], "linux/amd64/v2", 1),
        (["linux/amd64/v3", "linux/amd64"], "linux/amd64", 1),
        (["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"], "linux/arm/v7", 1),
        (["linux/arm/v5", "linux/arm/v6"], "linux/arm/v7", 1),
        (["linux/arm/v7", "linux/arm/v5"], "linux/arm/v6", 1),
        (["linux/arm"], "linux/arm/v7", 0),
        (["linux/arm/v7", "linux/arm64/v8"], "linux/arm64", 1),
        (["linux/arm/v7", "linux/arm/v8"], "linux/arm64/v8", 1),
        (["linux/arm64", "linux/arm64/v8"], "linux/arm64/v8", 0),
        (["unknown/unknown", "linux/amd64"], "linux/amd64", 1),
        ([None, "linux/amd64"], "linux/amd64", 1),
        ([None, "linux/s390x"], "linux/amd64", 0),
        (["windows/amd64", "linux/amd64"], "linux/amd64", 1),
        (["Linux/X86_64"], "linux/amd64", 0),
    ],
)
def test_choose(offered: list[str | None], wanted: str, chosen: int) -> None:
    assert platform.choose(index(*offered), wanted).digest == f"sha256:{chosen:064x}"
    assert platform.choose(index(*offered), platform.parse(wanted)).digest == f"sha256:{chosen:064x}"


@pytest.mark.parametrize(
    ("offered", "wanted", "message"),
    [
        (["linux/amd64", "linux/arm64", "linux/amd64"], "linux/s390x", "the index offers linux/amd64, linux/arm64"),
        (["linux/amd64/v3"], "linux/amd64", "the index offers linux/amd64/v3"),
        (["linux/arm64"], "linux/arm/v7", "the index offers linux/arm64"),
        ([], "linux/amd64", "the index is empty"),
        (["unknown/unknown"], "linux/amd64", "the index is empty"),
    ],
)
def test_choose_finds_nothing(offered: list[str | None], wanted: str, message: str) -> None:
    with pytest.raises(NotFound) as caught:
        platform.choose(index(*offered), wanted)
    assert str(caught.value).endswith(message)


def test_attestations_are_never_chosen() -> None:
    attestation = entry("linux/amd64", 1, **{"vnd.docker.reference.type": "attestation-manifest"})
    assert platform.is_attestation(attestation)
    assert platform.choose([attestation, entry("linux/amd64", 2)], "linux/amd64").digest.endswith("2")
    with pytest.raises(NotFound):
        platform.choose([attestation], "linux/amd64")


def test_windows_versions_must_agree() -> None:
    def offer(version: str) -> Descriptor:
        return entry("windows/amd64").replace(platform=Platform("windows", "amd64", os_version=version))

    assert platform.choose([offer("10.0.17763.1"), offer("10.0.20348.9")], "windows(10.0.20348.1)/amd64")
    with pytest.raises(NotFound):
        platform.choose([offer("10.0.17763.1")], "windows(10.0.20348.1)/amd64")


def test_os_features_must_be_there() -> None:
    special = entry("linux/amd64", 1).replace(platform=Platform("linux", "amd64", os_features=("x",)))
    assert platform.choose([special, entry("linux/amd64", 2)], "linux/amd64").digest.endswith("2")
    assert platform.choose([special], "linux(+x)/amd64") == special
