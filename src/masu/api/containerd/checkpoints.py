"""A task's checkpoint in the content store: CRIU's directory as a tar archive."""

from __future__ import annotations

import os
import tarfile
import tempfile
from typing import IO

from masu.api.containerd.service import Call
from masu.api.proto import types_pb2
from masu.errors import AlreadyExists, DataLoss, InvalidArgument

# As containerd names what a checkpoint leaves.
IMAGE_TYPE = "application/vnd.containerd.container.criu.checkpoint.criu.tar"
_CHUNK_BYTES = 1 << 20


def packed(call: Call, directory: str) -> types_pb2.Descriptor:
    with tempfile.TemporaryFile(dir=call.engine.run) as archive:
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(directory, ".")
        archive.seek(0)
        return stored(call, IMAGE_TYPE, archive)


def stored(call: Call, media_type: str, data: IO[bytes]) -> types_pb2.Descriptor:
    """Puts a file into the content store, for the call's lease to hold."""
    with call.ns.content.writer(f"checkpoint-{os.urandom(8).hex()}", lease=call.lease) as writer:
        while chunk := data.read(_CHUNK_BYTES):
            writer.write(chunk)
        size, digest = data.tell(), writer.digest()
        try:
            writer.commit(size)
        except AlreadyExists:
            pass
    return types_pb2.Descriptor(media_type=media_type, digest=digest, size=size)


def unpack(call: Call, descriptor: types_pb2.Descriptor, directory: str) -> None:
    """Into a new directory. What is in the archive is anybody's word, and CRIU reads it as root: regular files by plain
    names are taken, nothing else. Raises InvalidArgument, NotFound, AlreadyExists, DataLoss."""
    if descriptor.media_type != IMAGE_TYPE:
        raise InvalidArgument("checkpoint", descriptor.media_type, detail=f"{IMAGE_TYPE} is wanted")
    with os.fdopen(call.ns.content.open(descriptor.digest), "rb") as archive:
        os.makedirs(directory, 0o700)
        try:
            with tarfile.open(fileobj=archive, mode="r:") as tar:
                for member in tar:
                    _take(tar, member, directory)
        except tarfile.TarError as error:
            raise DataLoss("checkpoint", descriptor.digest, detail=str(error)) from error


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, directory: str) -> None:
    name = member.name.removeprefix("./")
    if member.isdir() and name in ("", "."):
        return
    data = tar.extractfile(member) if member.isreg() and not member.issparse() else None
    if data is None or "/" in name or name in ("", ".", ".."):
        raise DataLoss("checkpoint", member.name, detail="no regular file of the directory itself")
    fd = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as out:
        while chunk := data.read(_CHUNK_BYTES):
            out.write(chunk)
