"""A registry as a transfer names it: where to ask, with whose credentials.

Credentials are the client's to give: it is asked on its stream when a server wants some.

    masud ── AuthRequest{host, reference} ──► client
          ◄── AuthResponse{type, username, secret}
"""

from __future__ import annotations

import asyncio
import dataclasses

from masu.api.containerd.site import Site
from masu.api.containerd.streams import Stream
from masu.api.proto import transfer_types_pb2 as types
from masu.errors import InvalidArgument, PermissionDenied
from masu.registry import rules_from
from masu.registry.credentials import Credentials
from masu.registry.rules import Endpoint, Rule, Rules
from masu.spec import reference
from masu.spec.reference import Reference

# A client may ask its user.
_ANSWER_S = 120.0


class Registry:
    """`str` of it is what containerd calls it in its progress."""

    def __init__(self, message: types.OCIRegistry, site: Site, auth: Stream | None) -> None:
        """Raises InvalidArgument for what is no reference."""
        self.given = message.reference
        self.ref: Reference = reference.parse(message.reference)
        self._auth = auth
        self._loop = asyncio.get_running_loop()
        self._answers: dict[str, Credentials | None] = {}
        self.rules = _rules(message.resolver, site, self.ref.domain)

    def __str__(self) -> str:
        return f"OCI Registry ({self.given})"

    def credentials(self, host: str, repository: str) -> Credentials | None:
        """Called in threads. Raises PermissionDenied when the client does not answer."""
        if self._auth is None:
            return None
        if host not in self._answers:
            asking = asyncio.run_coroutine_threadsafe(self._question(self._auth, host), self._loop)
            try:
                self._answers[host] = asking.result(_ANSWER_S)
            except TimeoutError:
                asking.cancel()
                raise PermissionDenied("registry", host, detail="the client gave no credentials in time") from None
        return self._answers[host]

    async def _question(self, stream: Stream, host: str) -> Credentials | None:
        await stream.send(types.AuthRequest(host=host, reference=self.given))
        message = await stream.receive()
        if message is None or message.type_url.rpartition("/")[2] != types.AuthResponse.DESCRIPTOR.full_name:
            raise InvalidArgument("stream", detail="an AuthResponse is expected")
        answer = types.AuthResponse.FromString(message.value)
        if answer.authType == types.CREDENTIALS:
            return Credentials(answer.username, answer.secret)
        if answer.authType == types.REFRESH and answer.secret:
            return Credentials(identity_token=answer.secret)
        if answer.authType == types.HEADER:
            return Credentials(registry_token=answer.secret.removeprefix("Bearer "))
        return None


class _WithHeaders(Rules):
    """Rules whose endpoints send more headers."""

    headers: tuple[tuple[str, str], ...] = ()

    def endpoints(self, domain: str, *, capability: str = "pull", insecure: bool = False) -> tuple[Endpoint, ...]:
        found = super().endpoints(domain, capability=capability, insecure=insecure)
        return tuple(dataclasses.replace(each, headers=(*each.headers, *self.headers)) for each in found)


def _rules(resolver: types.RegistryResolver, site: Site, domain: str) -> Rules:
    """The daemon's rules, with what the client says before them."""
    known = rules_from()
    folders = (resolver.host_dir,) if resolver.host_dir else (*site.hosts_dirs, *known.hosts_dirs)
    first: tuple[Rule, ...] = ()
    if resolver.default_scheme == "http":
        first = (Rule(domain, server=f"http://{domain}"),)
    found = _WithHeaders((*known.rules, *first), known.certificate_dirs, folders)
    # Frozen against accidents; this one is being made.
    object.__setattr__(found, "headers", tuple(sorted(resolver.headers.items())))
    return found
