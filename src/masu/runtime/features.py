"""What this runtime can do, as the features document of the runtime-spec (features.md, features-linux.md).

Each list is taken from the table that the code itself works by, so that it cannot say more than is done.
"""

from __future__ import annotations

from masu.linux import capabilities, mount, seccomp_support
from masu.spec import extras, linux, seccomp
from masu.spec.hooks import Hooks

OCI_VERSION_MIN = "1.0.0"
OCI_VERSION_MAX = "1.3.0"


def features() -> dict[str, object]:
    """The document. What depends on the machine: `linux.seccomp` (libseccomp, kernel)."""
    support = seccomp_support.support(seccomp.ARCHITECTURES)
    return {
        "ociVersionMin": OCI_VERSION_MIN,
        "ociVersionMax": OCI_VERSION_MAX,
        "hooks": list(Hooks.FIELDS),
        "mountOptions": mount.known_options(),
        "linux": {
            "namespaces": sorted(linux.NAMESPACES),
            "capabilities": list(capabilities.NUMBERS),
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
            "seccomp": _seccomp(support),
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": True, "schemata": True, "monitoring": True},
            "memoryPolicy": {
                "modes": sorted(linux.MEMORY_POLICY_MODES),
                "flags": sorted(linux.MEMORY_POLICY_FLAGS),
            },
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        "annotations": {"io.github.seccomp.libseccomp.version": support.version} if support else {},
        # Prefixes end with a point (features.md).
        "potentiallyUnsafeConfigAnnotations": ["org.criu.config", "org.systemd.property.", extras.PREFIX],
    }


def _seccomp(support: seccomp_support.Support | None) -> dict[str, object]:
    if support is None:
        return {"enabled": False}
    return {
        "enabled": True,
        "actions": sorted(seccomp.ACTIONS),
        "operators": sorted(seccomp.OPERATORS),
        "archs": sorted(support.architectures),
        "knownFlags": sorted(seccomp.FLAGS),
        "supportedFlags": sorted(support.flags),
    }
