"""Image registries: the OCI distribution protocol, both ways.

    pulled = masu.registry.pull(store.namespace("default"), "redis:7")
    masu.registry.push(ns, "registry.example.com/team/app:1")

Synchronous doors for a synchronous engine; within, asyncio and aiohttp, which are loaded by the first call only.
Where to ask is said by `masu.registry.rules`, with which credentials by `masu.registry.credentials`. Nothing
here prints: pass a `progress` (masu.registry.progress.Progress).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.registry.credentials import Credentials
    from masu.registry.progress import Progress
    from masu.registry.pulling import LayerHook, Pulled
    from masu.registry.rules import Rules
    from masu.registry.transport import Policy
    from masu.spec.image import Descriptor
    from masu.spec.platform import Platform
    from masu.spec.reference import Reference
    from masu.store import NamespaceStore

DEFAULT_CONCURRENCY = 3


def pull(
    ns: NamespaceStore,
    ref: str | Reference,
    *,
    platform: str | Platform | None = None,
    auth: Credentials | None = None,
    progress: Progress | None = None,
    concurrency: int = DEFAULT_CONCURRENCY,
    insecure: bool = False,
    rules: Rules | None = None,
    policy: Policy | None = None,
    on_layer: LayerHook | None = None,
) -> Pulled:
    """Bring an image's content into `ns` and let the record `str(ref)` point to it. Does not unpack.

    `platform` (default: this machine's) chooses from an index. `auth` is for the registry itself, other
    credentials come from the user's files. `insecure` accepts plain http and unverified certificates from the
    registry itself. `on_layer(i, layer, manifest, config)` is called in a thread, one layer after the other in the
    manifest's order, each as soon as it and all before it are there: unpacking may go on beside downloading; what
    it raises ends the pull.

    A pull that was interrupted goes on where it stopped. Raises NotFound (no such image, no such platform),
    PermissionDenied, Unavailable (nobody answers, tries used up), DataLoss (not what was promised),
    InvalidArgument or Unimplemented (not an image we can run), FailedPrecondition (TLS, redirects).
    """
    from masu.registry import pulling, threads

    return threads.run(
        pulling.pull(
            ns,
            _reference(ref),
            rules=_rules(rules),
            wanted=_platform(platform),
            auth=auth,
            progress=progress,
            concurrency=concurrency,
            insecure=insecure,
            policy=policy,
            on_layer=on_layer,
        )
    )


def resolve(
    ref: str | Reference,
    *,
    auth: Credentials | None = None,
    progress: Progress | None = None,
    insecure: bool = False,
    rules: Rules | None = None,
    policy: Policy | None = None,
) -> Descriptor:
    """What `ref` names in its registry now: an index or a manifest. Brings nothing in; raises as `pull` does."""
    from masu.registry import resolving, threads

    return threads.run(
        resolving.resolve_only(
            _reference(ref), rules=_rules(rules), auth=auth, progress=progress, insecure=insecure, policy=policy
        )
    )


def push(
    ns: NamespaceStore,
    ref: str | Reference,
    *,
    source: str | None = None,
    platform: str | Platform | None = None,
    auth: Credentials | None = None,
    progress: Progress | None = None,
    concurrency: int = DEFAULT_CONCURRENCY,
    insecure: bool = False,
    rules: Rules | None = None,
    policy: Policy | None = None,
    chunk_bytes: int | None = None,
) -> Descriptor:
    """Send the image `source` (default: the one named `ref`) to the registry and repository of `ref`.

    Sends the whole index when all of it is here, else the one platform that is; `platform` asks for one. Blobs
    that the registry has are not sent, those that another repository of it is known to have are mounted.
    `chunk_bytes` is the size of an upload's pieces (default: a blob in one piece up to 64 MiB).
    Returns what the tag points to now. Raises as `pull` does.
    """
    from masu.registry import pushing, threads

    return threads.run(
        pushing.push(
            ns,
            _reference(ref),
            source=source,
            rules=_rules(rules),
            wanted=_platform(platform),
            auth=auth,
            progress=progress,
            concurrency=concurrency,
            insecure=insecure,
            policy=policy,
            chunk_bytes=chunk_bytes,
        )
    )


def tags(
    ref: str | Reference,
    *,
    auth: Credentials | None = None,
    insecure: bool = False,
    rules: Rules | None = None,
    policy: Policy | None = None,
) -> list[str]:
    """All tags of the repository of `ref`, in the registry's order; raises as `pull` does."""
    from masu.registry import resolving, threads

    return threads.run(
        resolving.tags(_reference(ref), rules=_rules(rules), auth=auth, insecure=insecure, policy=policy)
    )


def rules_from(path: str | None = None) -> Rules:
    """The rules of the file `path`, or the machine's (masu.registry.rules.load)."""
    from masu.registry.rules import load

    return load(path)


def _reference(ref: str | Reference) -> Reference:
    from masu.spec import reference

    return reference.parse(ref) if isinstance(ref, str) else ref


def _platform(platform: str | Platform | None) -> Platform | None:
    from masu.spec.platform import parse

    return parse(platform) if isinstance(platform, str) else platform


def _rules(rules: Rules | None) -> Rules:
    return rules if rules is not None else rules_from()
