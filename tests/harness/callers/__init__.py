"""Those who call an OCI runtime, as the tests use them: Docker, containerd, Podman, Buildah, each with masu-oci.

    with Premises(folder) as premises:      namespaces, a cgroup parent and a folder that nobody else uses
        docker = Docker(premises)           a daemon on its own socket, root and bridge
        docker("run", "--rm", "--runtime=masu", "busybox", "id")

What a user writes to make masu-oci their runtime is read from docs/oci-runtime.md (callers.document), so that it is
what has been tried.
"""

from __future__ import annotations

from harness.callers.caller import Caller, at_work, check_shell
from harness.callers.premises import Premises

__all__ = ["Caller", "Premises", "at_work", "check_shell"]
