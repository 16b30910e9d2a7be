"""Layers into mounted trees, and out of them."""

from __future__ import annotations

import os

from masu.api.containerd import values
from masu.api.containerd.service import Call, Service
from masu.api.proto import diff_pb2 as pb
from masu.api.proto import types_pb2
from masu.errors import AlreadyExists, Unimplemented
from masu.snapshots.apply import apply_layer
from masu.snapshots.compression import Compressor
from masu.snapshots.diff import write_diff
from masu.snapshots.driver import sync_files
from masu.spec.image import MEDIA_TYPE_LAYER, MEDIA_TYPE_LAYER_GZIP, MEDIA_TYPE_LAYER_ZSTD, layer_compression

UNCOMPRESSED_LABEL = "containerd.io/uncompressed"
_WRITTEN = (MEDIA_TYPE_LAYER, MEDIA_TYPE_LAYER_GZIP, MEDIA_TYPE_LAYER_ZSTD)


class Diff(Service):
    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Diff"]

    def apply(self, request: pb.ApplyRequest, call: Call) -> pb.ApplyResponse:
        """The answer is what was applied: the uncompressed layer."""
        layer = values.descriptor(request.diff, "diff")
        mounts = values.mounts(request.mounts)
        applied = apply_layer(call.ns, layer, mounts)
        if request.sync_fs:
            sync_files(mounts[0].option("upperdir") or mounts[0].source)
        return pb.ApplyResponse(
            applied=types_pb2.Descriptor(media_type=MEDIA_TYPE_LAYER, digest=applied.diff_id, size=applied.stream_bytes)
        )

    def diff(self, request: pb.DiffRequest, call: Call) -> pb.DiffResponse:
        """What makes `right` of `left`, as a blob of the content store."""
        media_type = request.media_type or MEDIA_TYPE_LAYER_GZIP
        if media_type not in _WRITTEN:
            raise Unimplemented(f"unsupported diff media type: {media_type}")
        content = call.ns.content
        ref = request.ref or f"diff-{os.urandom(8).hex()}"
        with content.writer(ref, lease=call.lease) as writer:
            writer.truncate()
            try:
                stream = Compressor(writer, layer_compression(media_type))
                made = write_diff(values.mounts(request.left), values.mounts(request.right), stream)
                stream.end()
            except BaseException:
                writer.close()
                content.abort(ref)
                raise
            labels = {**request.labels, UNCOMPRESSED_LABEL: made.diff_id}
            digest, size = writer.digest(), writer.offset
            try:
                writer.commit(labels=labels)
            except AlreadyExists:
                content.update(digest, {UNCOMPRESSED_LABEL: made.diff_id})
        return pb.DiffResponse(diff=types_pb2.Descriptor(media_type=media_type, digest=digest, size=size))
