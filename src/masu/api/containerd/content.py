"""Content: blobs by digest, and writes in progress.

    client                         masud
      STAT ref total expected ──►    opens or resumes the write: its lock is this stream's
           ◄── offset, digest so far
      WRITE offset data ─────────►   offset must be where the write is; 0 starts over
           ◄── offset
      COMMIT offset data labels ─►   size and digest compared
           ◄── digest                or AlreadyExists: somebody else brought it, and a lease holds it all the same

A stream that ends before its COMMIT leaves what has arrived for the next one with the same ref.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

from google.protobuf.empty_pb2 import Empty

from masu.api.containerd import filters, values
from masu.api.containerd.service import Call, Service, brief
from masu.api.containerd.status import OutOfRange
from masu.api.proto import content_pb2 as pb
from masu.errors import AlreadyExists, DataLoss, FailedPrecondition, InvalidArgument, NotFound
from masu.store import checks
from masu.store.content import Info
from masu.store.ingest import Status, Writer

_BLOCK = 100
_CHUNK_BYTES = 1 << 20
# The whole of a manifest; what is read before anything else has a turn.
_FIRST_CHUNK_BYTES = 64 << 10


class Content(Service):
    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Content"]

    @brief
    def info(self, request: pb.InfoRequest, call: Call) -> pb.InfoResponse:
        return pb.InfoResponse(info=_message(call.ns.content.info(request.digest)))

    def update(self, request: pb.UpdateRequest, call: Call) -> pb.UpdateResponse:
        given, ns = request.info, call.ns
        masked = values.mask(request.update_mask.paths, {"labels": True}, given.digest)
        with ns.transaction():
            old = ns.content.info(given.digest).labels
            found = ns.content.update(given.digest, values.masked_labels(old, given.labels, masked["labels"]))
        return pb.UpdateResponse(info=_message(found))

    def list(self, request: pb.ListContentRequest, call: Call) -> Iterator[pb.ListContentResponse]:
        wanted, block = filters.parse(request.filters), list[pb.Info]()
        for each in call.ns.content.walk():
            if wanted(filters.fields({"digest": each.digest, "size": str(each.size)}, each.labels)):
                block.append(_message(each))
            if len(block) == _BLOCK:
                yield pb.ListContentResponse(info=block)
                block = []
        if block:
            yield pb.ListContentResponse(info=block)

    def delete(self, request: pb.DeleteContentRequest, call: Call) -> Empty:
        call.ns.content.delete(request.digest)
        call.ns.leases.forget("content", request.digest)
        self.site.collector.dirty()
        return Empty()

    @brief
    def read(self, request: pb.ReadContentRequest, call: Call) -> Iterator[pb.ReadContentResponse]:
        fd = call.ns.content.open(request.digest)
        try:
            whole, begin = os.fstat(fd).st_size, max(request.offset, 0)
            if begin > whole:
                raise OutOfRange(f"read past object length {whole} bytes")
            end = min(begin + request.size, whole) if request.size > 0 else whole
            at, chunk = begin, _FIRST_CHUNK_BYTES
            while at < end and (data := os.pread(fd, min(chunk, end - at), at)):
                # Offsets count from where the reading began.
                yield pb.ReadContentResponse(offset=at - begin, data=data)
                at, chunk = at + len(data), _CHUNK_BYTES
        finally:
            os.close(fd)

    def status(self, request: pb.StatusRequest, call: Call) -> pb.StatusResponse:
        return pb.StatusResponse(status=_status(call.ns.content.status(request.ref)))

    def list_statuses(self, request: pb.ListStatusesRequest, call: Call) -> pb.ListStatusesResponse:
        wanted = filters.parse(request.filters)
        found = call.ns.content.statuses()
        return pb.ListStatusesResponse(
            statuses=[_status(each) for each in found if wanted(filters.fields({"ref": each.ref}, {}))]
        )

    def abort(self, request: pb.AbortRequest, call: Call) -> Empty:
        call.ns.content.abort(request.ref)
        return Empty()

    async def write(
        self, requests: AsyncIterator[pb.WriteContentRequest], call: Call
    ) -> AsyncIterator[pb.WriteContentResponse]:
        session: _Session | None = None
        try:
            async for request in requests:
                if session is None:
                    session = await call.run(_Session, request, call)
                yield await call.run(session.step, request)
                if request.action == pb.COMMIT:
                    return
        finally:
            if session is not None:
                await call.run(session.close)


class _Session:
    """One stream of a write, one message at a time."""

    def __init__(self, first: pb.WriteContentRequest, call: Call) -> None:
        if not first.ref:
            raise InvalidArgument("first message must have a reference")
        self._content = call.ns.content
        self._ref = first.ref
        self._total = first.total
        self._expected = first.expected
        self._writer: Writer = self._content.writer(
            first.ref, total=first.total or None, expected=first.expected or None, lease=call.lease
        )

    def close(self) -> None:
        self._writer.close()

    def step(self, request: pb.WriteContentRequest) -> pb.WriteContentResponse:
        writer = self._writer
        if request.expected and request.expected != self._expected:
            self._expected = request.expected
            self._refuse_present()
        self._total = request.total or self._total
        if request.action == pb.STAT:
            status = self._content.status(self._ref)
            answer = pb.WriteContentResponse(
                started_at=values.timestamp(status.started_at),
                updated_at=values.timestamp(status.updated_at),
                total=self._total,
            )
        else:
            self._write(request)
            answer = pb.WriteContentResponse()
        answer.action = request.action
        answer.offset = writer.offset
        answer.digest = writer.digest()
        if request.action == pb.COMMIT:
            self._commit(dict(request.labels))
        return answer

    def _write(self, request: pb.WriteContentRequest) -> None:
        writer = self._writer
        if request.offset not in (0, writer.offset):
            raise OutOfRange(f"write @{request.offset} must occur at current offset {writer.offset}")
        if request.offset == 0 and writer.offset > 0:
            writer.truncate()
        if request.data:
            writer.write(request.data)

    def _commit(self, labels: dict[str, str]) -> None:
        came, digest = self._writer.offset, self._writer.digest()
        if self._total and self._total != came:
            raise FailedPrecondition(f'"{self._ref}" failed size validation: {came} != {self._total}')
        if self._expected and self._expected != digest:
            checks.digest(self._expected)
            raise FailedPrecondition(f"unexpected commit digest {digest}, expected {self._expected}")
        try:
            self._writer.commit(labels=labels)
        except DataLoss as error:
            # Less or more came than the stream had promised at its beginning.
            raise FailedPrecondition(f'"{self._ref}" failed size validation', detail=error.detail) from error

    def _refuse_present(self) -> None:
        try:
            self._content.info(self._expected)
        except NotFound:
            return
        self._writer.close()
        self._content.abort(self._ref)
        raise AlreadyExists(f"blob with expected digest {self._expected} exists")


def _message(info: Info) -> pb.Info:
    return pb.Info(
        digest=info.digest,
        size=info.size,
        created_at=values.timestamp(info.created_at),
        updated_at=values.timestamp(info.updated_at),
        labels=info.labels,
    )


def _status(status: Status) -> pb.Status:
    return pb.Status(
        started_at=values.timestamp(status.started_at),
        updated_at=values.timestamp(status.updated_at),
        ref=status.ref,
        offset=status.offset,
        total=status.total,
        expected=status.expected,
    )
