"""Annotations by which crun's users ask for what config.json has no field for (crun(1), "Extensions to OCI")."""

from __future__ import annotations

from masu.errors import InvalidArgument, Unimplemented

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "run.oci."
# struct sock_filter is 8 bytes, and the kernel takes 4096 of them (BPF_MAXINSNS).
_MAX_BPF = 4096 * 8
# What of crun's is not offered, and why.
_REFUSED = {
    "run.oci.handler": "masu-oci runs Linux programs only",
    "run.oci.seccomp.plugins": "masu-oci loads nobody's code into itself: let an agent listen (seccomp.listenerPath)",
    "run.oci.systemd.force_cgroup_v1": "mount a cgroup v1 hierarchy where it is wanted, by config.json",
    "run.oci.delegate-cgroup": "the container may make cgroups below its own by itself",
}
# Empty it asks for what is done anyway.
_SUBGROUP = "run.oci.systemd.subgroup"


class Extras:
    """`hooks_stdout`, `hooks_stderr`: files, made when missing, to which all hooks append what they say. `keep_groups`:
    the process keeps the supplementary groups of masu-oci's caller. `pidfd_receiver`: a socket that gets a pidfd of
    the first process. `seccomp_bpf`: struct sock_filter[] as they stand, instead of linux.seccomp.
    `seccomp_strict`: a system call that libseccomp does not know is an error."""

    __slots__ = ("hooks_stderr", "hooks_stdout", "keep_groups", "pidfd_receiver", "seccomp_bpf", "seccomp_strict")

    def __init__(self, annotations: Mapping[str, str]) -> None:
        """Raises InvalidArgument, Unimplemented."""
        for key, why in _REFUSED.items():
            if key in annotations:
                raise Unimplemented("annotation", key, where=_where(key), detail=why)
        if annotations.get(_SUBGROUP):
            raise Unimplemented(
                "annotation",
                _SUBGROUP,
                where=_where(_SUBGROUP),
                detail="the container's cgroup is that of its unit, as with runc",
                hint="leave it out, or leave it empty",
            )
        self.hooks_stderr = _path(annotations, "run.oci.hooks.stderr")
        self.hooks_stdout = _path(annotations, "run.oci.hooks.stdout")
        # crun looks for these two, not at their values; and "0" is hardly meant as yes.
        self.keep_groups = annotations.get("run.oci.keep_original_groups", "0") != "0"
        self.pidfd_receiver = _path(annotations, "run.oci.pidfd_receiver")
        self.seccomp_bpf = _bpf(annotations, "run.oci.seccomp_bpf_data")
        self.seccomp_strict = annotations.get("run.oci.seccomp_fail_unknown_syscall", "0") != "0"


def with_listener(data: dict[str, object]) -> dict[str, object]:
    """config.json with run.oci.seccomp.receiver as its linux.seccomp.listenerPath, when it has none by itself."""
    annotations, linux = data.get("annotations"), data.get("linux")
    receiver = annotations.get("run.oci.seccomp.receiver") if isinstance(annotations, dict) else None
    seccomp = linux.get("seccomp") if isinstance(linux, dict) else None
    if not receiver or not isinstance(seccomp, dict) or seccomp.get("listenerPath"):
        return data
    assert isinstance(linux, dict)
    return {**data, "linux": {**linux, "seccomp": {**seccomp, "listenerPath": receiver}}}


def _where(key: str) -> str:
    return f"annotations[{key}]"


def _path(annotations: Mapping[str, str], key: str) -> str:
    path = annotations.get(key, "")
    if path and not path.startswith("/"):
        raise InvalidArgument("path", path, where=_where(key), detail="must be absolute")
    return path


def _bpf(annotations: Mapping[str, str], key: str) -> bytes | None:
    if key not in annotations:
        return None
    import binascii

    try:
        program = binascii.a2b_base64(annotations[key], strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidArgument("base64", where=_where(key), detail=str(error)) from None
    if not program or len(program) % 8 or len(program) > _MAX_BPF:
        raise InvalidArgument(
            "BPF program",
            f"{len(program)} bytes",
            where=_where(key),
            detail="wanted are 1 to 4096 instructions (struct sock_filter) of 8 bytes each",
        )
    return program
