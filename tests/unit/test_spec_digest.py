from __future__ import annotations

import hashlib

import pytest

from masu.errors import InvalidArgument
from masu.spec import digest


@pytest.mark.parametrize("text", ["sha256:" + "0" * 64, "sha384:" + "a" * 96, "sha512:" + "f" * 128])
def test_known(text: str) -> None:
    assert digest.check(text) == text
    assert digest.is_digest(text)
    assert digest.split(text) == tuple(text.split(":"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        ":" + "0" * 64,
        "sha256:" + "0" * 63,
        "sha256:" + "0" * 65,
        "sha256:" + "A" * 64,
        "SHA256:" + "0" * 64,
        "sha256:" + "0" * 63 + "\n",
        "sha256:../../../../../../../../../../../../../../../../../../../etc/passwd",
        "sha256:" + "٠" * 64,
        "md5:" + "0" * 32,
        "sha256+b64:" + "0" * 64,
        " sha256:" + "0" * 64,
    ],
)
def test_refused(text: str) -> None:
    assert not digest.is_digest(text)
    with pytest.raises(InvalidArgument) as caught:
        digest.check(text, "layers[0].digest")
    assert caught.value.where == "layers[0].digest"
    assert str(caught.value).isprintable()


def test_of() -> None:
    assert digest.of(b"{}") == "sha256:" + hashlib.sha256(b"{}").hexdigest()
