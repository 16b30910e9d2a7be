"""What the registry's tests have in common: a small image, a log of progress, a quick policy, a clean environment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import registryfixture as fake
from registryfixture import TestImage, image, random_bytes

import masu.registry
from masu.registry.credentials import Credentials
from masu.registry.pulling import Pulled
from masu.registry.rules import Mirror, Rule, Rules
from masu.registry.transport import Policy
from masu.spec.image import Descriptor
from masu.store import NamespaceStore

QUICK = Policy(tries=3, backoff_s=0.01, backoff_cap_s=0.05, connect_timeout_s=5, stall_timeout_s=20)
PLAIN = Rules(certificate_dirs=(), hosts_dirs=())
ME = Credentials(fake.USER, fake.PASSWORD)


class Log:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.totals: dict[str, int] = {}
        self.reached: dict[str, int] = {}
        self.words: list[tuple[str, str]] = []
        self.documents: dict[str, str] = {}

    def layer(self, digest: str, total: int) -> None:
        self.totals[digest] = total

    def advance(self, digest: str, n: int) -> None:
        self.reached[digest] = self.reached.get(digest, 0) + n

    def document(self, descriptor: Descriptor, below: Sequence[Descriptor], text: str) -> None:
        self.documents[descriptor.digest] = text

    def status(self, digest: str, text: str) -> None:
        self.words.append((digest, text))


def clean_environment(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Nobody's real credentials, rules or proxies."""
    monkeypatch.setenv("HOME", str(home))
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("MASU_REGISTRIES", "")


BIG = random_bytes(3 << 20)


def sample(**options: Any) -> TestImage:
    return image([{"big": BIG}, {"small": b"hello"}], **options)


def pull(ns: NamespaceStore, ref: str, **options: Any) -> Pulled:
    options.setdefault("policy", QUICK)
    options.setdefault("rules", PLAIN)
    return masu.registry.pull(ns, ref, **options)


def is_whole(ns: NamespaceStore, one: TestImage) -> bool:
    return all(ns.content.read(digest, 1 << 26) == data for digest, data in one.blobs.items())


def nothing_partial(ns: NamespaceStore) -> bool:
    return not ns.content.statuses() and not ns.leases.list()


def mirrors(*urls: str, name: str = "*", fallback: bool = True) -> Rules:
    return Rules((Rule(name, tuple(Mirror(url) for url in urls), fallback),), (), ())
