"""Containers that are units of systemd, and what systemd says of them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from harness.oci import Runtime


def show(unit: str, *names: str) -> dict[str, str]:
    """Properties of a unit, as systemctl prints them; a list has its items on lines of their own."""
    done = subprocess.run(
        ["systemctl", "show", unit, *(f"--property={name}" for name in names)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    found: dict[str, str] = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition("=")
        found[name] = f"{found[name]}\n{value}" if name in found else value
    return found


def loaded(unit: str) -> bool:
    return show(unit, "LoadState")["LoadState"] == "loaded"


def sleeping(**linux: Any) -> Any:
    def change(config: dict[str, Any]) -> None:
        config["process"]["args"] = ["/bin/probe", "sleep"]
        config["linux"]["namespaces"].append({"type": "cgroup"})
        config["annotations"] = linux.pop("annotations", {})
        config["linux"].update(linux)

    return change


def launch(runtime: Runtime, id: str, change: Any, rootfs: Path) -> None:
    # Its words must not come into the file that the next command writes to.
    runtime("run", "-d", "--bundle", str(runtime.bundle(rootfs, change)), id, stdout=subprocess.DEVNULL)
