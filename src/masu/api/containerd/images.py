"""Images: names, and what they stand for."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty

from masu.api.containerd import filters, values
from masu.api.containerd.service import Call, Service, brief
from masu.api.proto import images_pb2 as pb
from masu.errors import InvalidArgument, NotFound
from masu.spec.image import Descriptor
from masu.store import Image
from masu.store.checks import merge_labels
from masu.store.leases import EXPIRE

_FIELDS = {"labels": True, "target": False, "annotations": True}


class Images(Service):
    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Images"]

    @brief
    def get(self, request: pb.GetImageRequest, call: Call) -> pb.GetImageResponse:
        return pb.GetImageResponse(image=message(call.ns.images.get(request.name)))

    def list(self, request: pb.ListImagesRequest, call: Call) -> pb.ListImagesResponse:
        wanted = filters.parse(request.filters)
        return pb.ListImagesResponse(images=[message(each) for each in call.ns.images.list() if wanted(_fields(each))])

    def create(self, request: pb.CreateImageRequest, call: Call) -> pb.CreateImageResponse:
        given = _named(request.image)
        image = Image(given.name, values.descriptor(given.target), given.labels)
        with call.ns.transaction():
            created = call.ns.images.create(image)
            _hold(created, call)
        return pb.CreateImageResponse(image=message(created))

    def update(self, request: pb.UpdateImageRequest, call: Call) -> pb.UpdateImageResponse:
        given, ns = _named(request.image), call.ns
        masked = values.mask(request.update_mask.paths, _FIELDS, given.name)
        with ns.transaction():
            image = ns.images.get(given.name)
            if "labels" in masked:
                changes = values.masked_labels(image.labels, given.labels, masked["labels"])
                image.labels = merge_labels(image.labels, changes)
            if "target" in masked:
                image.target = values.descriptor(given.target)
            elif "annotations" in masked:
                old = image.target.annotations
                changes = values.masked_labels(old, given.target.annotations, masked["annotations"])
                image.target = _annotated(image.target, merge_labels(dict(old), changes))
            updated = ns.images.update(image)
            _hold(updated, call)
        self.site.collector.dirty()
        return pb.UpdateImageResponse(image=message(updated))

    def delete(self, request: pb.DeleteImageRequest, call: Call) -> Empty:
        ns, target = call.ns, request.target.digest
        with ns.transaction(freeing=True):
            if target and (has := ns.images.get(request.name).target.digest) != target:
                raise NotFound("image", request.name, detail=f"has target {has}, not {target}")
            ns.images.delete(request.name)
            ns.leases.forget("images", request.name)
        self.site.collector.dirty(wait=request.sync)
        return Empty()


def message(image: Image) -> pb.Image:
    return pb.Image(
        name=image.name,
        labels=image.labels,
        target=values.descriptor_message(image.target),
        created_at=values.timestamp(image.created_at),
        updated_at=values.timestamp(image.updated_at),
    )


def _hold(image: Image, call: Call) -> None:
    # One that is to expire is kept by the lease beyond that time; any other one is kept anyway.
    if call.lease is not None and EXPIRE in image.labels:
        call.ns.leases.add_resource(call.lease, "images", image.name)


def _named(given: pb.Image) -> pb.Image:
    if not given.name:
        raise InvalidArgument("Image.Name required")
    return given


def _annotated(target: Descriptor, annotations: dict[str, str]) -> Descriptor:
    changed = values.descriptor_message(target)
    changed.annotations.clear()
    changed.annotations.update(annotations)
    return values.descriptor(changed)


def _fields(image: Image) -> filters.Fields:
    simple = {
        "name": image.name,
        "target.digest": image.target.digest,
        "target.mediatype": image.target.media_type,
    }
    return filters.fields(simple, image.labels, annotations=image.target.annotations)
