"""Each service serves all of its methods, each in a way that its kind of rpc can be served."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
from harness.programs import ROOT

from masu.api.containerd.service import Service, snake
from masu.api.containerd.table import SERVICES

SRC = str(ROOT / "src")


@pytest.mark.parametrize("service", SERVICES, ids=lambda each: str(each.name()))
def test_every_rpc_has_its_method(service: type[Service]) -> None:
    for rpc in service.DESCRIPTOR.methods:
        function = getattr(service, snake(rpc.name), None)
        assert function is not None, rpc.full_name
        generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
        returned = inspect.signature(function).return_annotation
        assert generator == rpc.server_streaming or returned.startswith("Iterator["), rpc.full_name
        if rpc.client_streaming:
            assert inspect.isasyncgenfunction(function), rpc.full_name


def test_names_in_snake_case() -> None:
    assert [snake(name) for name in ("Get", "ListStream", "CloseIO", "ResizePty", "ListPids", "DeleteProcess")] == [
        "get", "list_stream", "close_io", "resize_pty", "list_pids", "delete_process",
    ]  # fmt: skip


def test_the_registry_client_comes_late() -> None:
    """A daemon whose clients pull by themselves goes without it."""
    ask = "import sys; from masu.daemon import service; print(*sorted({'aiohttp', 'zstandard'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", ask], capture_output=True, text=True, check=True, env={"PYTHONPATH": SRC}
    )
    assert done.stdout.split() == []
