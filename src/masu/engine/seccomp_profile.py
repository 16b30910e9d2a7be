"""Reads a `--security-opt seccomp=FILE` profile: Docker's form or OCI's, and gives OCI's (`linux.seccomp`).

Docker's form (moby profiles/seccomp) adds to OCI's an `archMap` with sub-architectures, and to each rule `includes` and
`excludes` by architecture, capability and kernel version; which rules hold is decided here, for this machine.
"""

from __future__ import annotations

from masu.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Json = dict[str, object]

_MAX_RULES = 100_000


def convert(data: object, *, name: str, arch: str, capabilities: Sequence[str], kernel: tuple[int, int]) -> Json:
    """The profile as `linux.seccomp`. `arch` is Go's word for this machine (amd64), `kernel` its (major, minor).

    Raises InvalidArgument naming the JSON path in `name`.
    """
    if not isinstance(data, dict):
        raise InvalidArgument("seccomp profile", where=name, detail="not a JSON object")
    if not isinstance(data.get("defaultAction"), str):
        raise InvalidArgument("seccomp profile", where=f"{name}: defaultAction", detail="missing or not a string")
    out: Json = {"defaultAction": data["defaultAction"]}
    if data.get("defaultErrnoRet") is not None:
        out["defaultErrnoRet"] = data["defaultErrnoRet"]
    if data.get("flags"):
        out["flags"] = data["flags"]
    for key in ("listenerPath", "listenerMetadata"):
        if data.get(key):
            out[key] = data[key]
    if data.get("architectures") and data.get("archMap"):
        raise InvalidArgument("seccomp profile", where=name, detail="use either architectures or archMap, not both")
    architectures = data.get("architectures")
    if data.get("archMap"):
        native = "SCMP_ARCH_" + {"amd64": "X86_64", "arm64": "AARCH64", "386": "X86"}.get(arch, arch.upper())
        for entry in _list(data["archMap"], f"{name}: archMap"):
            if isinstance(entry, dict) and entry.get("architecture") == native:
                architectures = [native, *(entry.get("subArchitectures") or [])]
    if architectures:
        out["architectures"] = architectures
    rules: list[Json] = []
    for index, rule in enumerate(_list(data.get("syscalls") or [], f"{name}: syscalls")):
        where = f"{name}: syscalls[{index}]"
        if not isinstance(rule, dict):
            raise InvalidArgument("seccomp rule", where=where, detail="not an object")
        if not _holds(rule, where, arch, capabilities, kernel):
            continue
        # "name" is the form of before Docker 1.11
        names = rule.get("names") or ([rule["name"]] if rule.get("name") else [])
        if rule.get("names") and rule.get("name"):
            raise InvalidArgument("seccomp rule", where=where, detail="use either name or names, not both")
        converted: Json = {"names": names, "action": rule.get("action")}
        for key in ("errnoRet", "args"):
            if rule.get(key):
                converted[key] = rule[key]
        rules.append(converted)
    out["syscalls"] = rules
    return out


def _list(value: object, where: str) -> list[object]:
    if not isinstance(value, list) or len(value) > _MAX_RULES:
        raise InvalidArgument("seccomp profile", where=where, detail="not a list, or too long a one")
    return value


def _holds(rule: Json, where: str, arch: str, capabilities: Sequence[str], kernel: tuple[int, int]) -> bool:
    for key, wanted in (("excludes", False), ("includes", True)):
        condition = rule.get(key)
        if not condition:
            continue
        if not isinstance(condition, dict):
            raise InvalidArgument("seccomp rule", where=f"{where}.{key}", detail="not an object")
        arches, caps = condition.get("arches") or [], condition.get("caps") or []
        minimum = condition.get("minKernel")
        newer = True
        if minimum:
            major, _, minor = str(minimum).partition(".")
            if not (major.isdigit() and minor.isdigit()):
                raise InvalidArgument("kernel version", minimum, where=f"{where}.{key}.minKernel", detail="want 4.8")
            newer = kernel >= (int(major), int(minor))
        if wanted:
            if (arches and arch not in arches) or any(cap not in capabilities for cap in caps) or not newer:
                return False
        elif arch in arches or any(cap in capabilities for cap in caps) or (minimum and newer):
            return False
    return True
