"""config.json by its grammar: what is right in every part, put together in ways that nobody has thought of.

Whatever is read becomes a plan that can be encoded and described, or an error that says where.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from harness.fuzzing import examples, kept, placed
from harness.specgrammar import vary
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.test_spec_properties import check_config
from unit.test_spec_runtime import full_config

from masu.plan import build, describe
from masu.plan.encode import encode
from masu.plan.host import Host, Rootfs, Wishes
from masu.runtime import preview
from masu.runtime.bundle import Bundle
from masu.spec import jsontext, runtime

if TYPE_CHECKING:
    from masu.plan.ops import Op

# No more than a name: nothing of it is looked at for a plan.
ROOT = Rootfs("/bundle/rootfs")
# Machines and callers that this one is not.
HYBRID = (("/sys/fs/cgroup/memory", "memory"), ("/sys/fs/cgroup/cpu,cpuacct", "cpu,cpuacct"))
HOSTS = [
    Host(cgroup_mode="v2"),
    Host(cgroup_mode="hybrid", cgroup_mounts=HYBRID, apparmor=False, selinux=False),
    Host(cgroup_mode="none", uid=1000, capabilities=0, rlimits={7: (1024, 4096)}),
    Host(cgroup_mode="v2", in_initial_userns=False, fully_mapped=False, bounding=0xFF),
]


def check(document: Any) -> None:
    document = jsontext.loads(json.dumps(document))
    check_config(document)
    warnings: list[str] = []

    def read() -> runtime.Config:
        config = runtime.parse_config(document, warnings)
        runtime.require_linux(config)
        runtime.extras_of(config)
        return config

    config = placed(read) if isinstance(document, dict) else None
    if config is None:
        return
    check_plan(placed(lambda: preview.plan(Bundle("/bundle", b"", config, warnings), "box", ROOT)))
    wishes = Wishes(fifo="exec.fifo", keyring="_ses.box")
    for host in HOSTS:
        check_plan(placed(build.build, config, ROOT, host, wishes, warnings))
    assert all(warning.isprintable() for warning in warnings)


def check_plan(ops: list[Op] | None) -> None:
    if ops is not None:
        assert encode(ops)
        assert describe.to_text(ops)
        json.dumps(describe.to_json(ops))


@kept("config.json")
def test_corpus(target: str, data: bytes) -> None:
    check(json.loads(data))


@pytest.mark.timeout(3600)
@settings(examples(200), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data(), st.sampled_from(["small", "default", "rootless", "full"]), st.integers(0, 5))
def test_grammar(data: st.DataObject, base: str, odd: int) -> None:
    check(data.draw(documents(base, odd == 0)))


@st.composite
def documents(draw: st.DrawFn, base: str, odd: bool) -> dict[str, Any]:
    bases: dict[str, Any] = {
        "small": {"ociVersion": "1.3.0", "process": {"args": ["true"], "cwd": "/"}, "root": {"path": "rootfs"}},
        "default": dict(runtime.default_config()),
        "rootless": dict(runtime.default_config(rootless=True)),
        "full": full_config(),
    }
    begin = bases[base]
    return vary(draw, runtime.Config, begin, odd=odd)
