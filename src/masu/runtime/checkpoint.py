"""`checkpoint`: CRIU writes a running container down, and ends it unless it is to run on.

    masu-oci                               criu swrk
      descriptors.json written
      DUMP, what comes from the host ───►  freezes the container, reads it through parasite code, writes images,
                                           kills it, or lets it run on when asked to, or when anything failed
      waits for its end, deletes it

A pre-dump writes memory only, for the next dump to be short; the container never stops for long.
"""

from __future__ import annotations

import errno
import os
from fcntl import F_GETFL, fcntl

from masu.errors import DataLoss, FailedPrecondition, InvalidArgument, MasuError
from masu.linux import namespaces, pidfd, procfs
from masu.runtime import notify
from masu.runtime.container import Container
from masu.runtime.criu import images as image_files
from masu.runtime.criu import mounts, rpc
from masu.runtime.criu.images import Directory
from masu.runtime.criu.options import CriuOptions, common, external
from masu.runtime.delete import delete

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.spec.runtime import Config

_END_DEADLINE_S = 10.0


def checkpoint(
    container: Container, options: CriuOptions, *, leave_running: bool = False, pre_dump: bool = False
) -> list[str]:
    """Writes the container to `options.image_path`; unless it is left running it is deleted then, and warnings of its
    poststop hooks are returned.

    Raises FailedPrecondition when it is not running, when CRIU or the kernel lacks something, and when the dump failed:
    the detail is what CRIU's log says. Then the container runs as before.
    """
    if options.status_fd >= 0:
        _check_status_fd(options.status_fd)
    criu = rpc.find()
    with container.hold():
        container.require("checkpoint")
        init = container.open_pidfd()
        if init is None:
            raise FailedPrecondition("Container cannot be checkpointed in stopped state")
        try:
            with Directory(options.image_path, "--image-path", make=True) as images:
                if options.parent_path:
                    image_files.check_parent(images, options.parent_path)
                if not options.work_path:
                    _dump(container, criu, options, images, images, leave_running=leave_running, pre_dump=pre_dump)
                else:
                    with Directory(options.work_path, "--work-path", make=True) as work:
                        _dump(container, criu, options, images, work, leave_running=leave_running, pre_dump=pre_dump)
            if leave_running or pre_dump:
                return []
            # Killed by CRIU, and on its way out.
            if not pidfd.wait_exited(init, _END_DEADLINE_S):
                raise DataLoss("container", container.id, detail="it is written down and does not end")
        finally:
            os.close(init)
    return delete(container, force=True)


def _check_status_fd(fd: int) -> None:
    try:
        writable = fcntl(fd, F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    except OSError as error:
        raise InvalidArgument("--status-fd", fd, error.errno or errno.EBADF) from error
    if not writable:
        raise InvalidArgument("--status-fd", fd, detail="not writable")


def _dump(
    container: Container,
    criu: str,
    options: CriuOptions,
    images: Directory,
    work: Directory,
    *,
    leave_running: bool,
    pre_dump: bool,
) -> None:
    config = notify.with_mount(container.config(), container)
    request = common(options, image_files.DUMP_LOG, config)
    request.set(
        images_dir_fd=images.fd,
        work_dir_fd=work.fd,
        pid=container.facts.pid,
        root=container.facts.rootfs,
        leave_running=leave_running,
        tcp_skip_in_flight=options.tcp_skip_in_flight,
        link_remap=options.link_remap,
    )
    _tell_external_namespaces(request, container.facts.pid, config)
    was_frozen = False
    if container.facts.cgroup_paths:
        was_frozen = container.cgroup.frozen()
        if (freezer := container.cgroup.path("freezer")) is not None:
            request.set(freeze_cgroup=freezer)
    if options.page_server is not None:
        address, port = options.page_server
        request.add("ps", address, port)
    if options.parent_path:
        request.set(parent_img=options.parent_path, track_mem=True)
    if not pre_dump:
        mounts.tell_dumped(request, container.facts.pid, config, container.facts.rootfs)
        stdio = container.facts.stdio or procfs.stdio(container.facts.pid)
        image_files.write_descriptors(images, stdio)
        for name in set(stdio):
            if name.startswith("file["):
                request.set(external=name)

    def notified(script: str, pid: int, received: list[int]) -> None:
        if script == "status-ready" and options.status_fd >= 0:
            # Whoever reads there may start the restore that draws the pages.
            os.write(options.status_fd, b"\0")
            os.close(options.status_fd)

    try:
        with rpc.Criu(criu) as running:
            running.require(*(["MemTrack"] if pre_dump else []), *(["LazyPages"] if options.lazy_pages else []))
            image_files.remove_written(work, image_files.DUMP_LOG)
            running.run(rpc.PRE_DUMP if pre_dump else rpc.DUMP, request, notified)
    except MasuError as error:
        if isinstance(error, rpc.Failed):
            image_files.quote_log(error, work, image_files.DUMP_LOG)
        _let_run_on(container, error, was_frozen=was_frozen)
        raise


def _tell_external_namespaces(request: rpc.Options, pid: int, config: Config) -> None:
    # By the process, not by the path: that may name nothing any more, or another one.
    kinds = {"net": "network", "pid": "pid"}
    for word, key, _ in external(config):
        _, inode = namespaces.identity(pid, kinds[word])
        request.set(external=f"{word}[{inode}]:{key}")


def _let_run_on(container: Container, error: MasuError, *, was_frozen: bool) -> None:
    """CRIU lets the container run on when it fails, but not when it was killed."""
    try:
        if container.facts.cgroup_paths and not was_frozen and container.cgroup.frozen():
            container.cgroup.thaw()
    except MasuError as failure:
        error.cleanup.append(failure)
