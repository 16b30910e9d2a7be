"""What a pull or a push tells whoever watches; the library itself never prints."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from masu.spec.image import Descriptor

    class Progress(Protocol):
        """Called in the thread that runs the transfer, never by two threads at once; must not block.

        `digest` is the blob's ("sha256:…"), or "" for the transfer as a whole. Order for one blob:
        `layer` once, then any number of `advance` and `status`.
        """

        def layer(self, digest: str, total: int) -> None:
            """A blob of `total` bytes belongs to this transfer."""

        def advance(self, digest: str, n: int) -> None:
            """`n` more bytes are there (negative when a download has to start over)."""

        def document(self, descriptor: Descriptor, below: Sequence[Descriptor], text: str) -> None:
            """Of a manifest, index or config, which is no `layer`: Waiting, Already exists, Download complete, Pushed;
            `below` is what it names. Those above come first."""

        def status(self, digest: str, text: str) -> None:
            """A few words: Waiting, Downloading, Already exists, Download complete, Retrying: …"""


class Quiet:
    """The progress of nobody watching."""

    __slots__ = ()

    def layer(self, digest: str, total: int) -> None:
        pass

    def advance(self, digest: str, n: int) -> None:
        pass

    def document(self, descriptor: Descriptor, below: Sequence[Descriptor], text: str) -> None:
        pass

    def status(self, digest: str, text: str) -> None:
        pass
