"""Answering a registry's challenge: Basic, and Bearer tokens as the distribution specification describes.

        us ── GET /v2/x/manifests/y ──────────────> registry
        us <─ 401 Bearer realm=R service=S scope=X ─ registry
        us ── GET R?service=S&scope=X  (Basic user:password, or nothing: anonymous) ──> token server
        us <─ {"token", "expires_in"} ───────────── token server
        us ── GET /v2/x/manifests/y, Bearer token ─> registry

One Authenticator belongs to one endpoint: what it holds is never sent anywhere but to that endpoint's origin
and, as the protocol wants it, to the token server which that origin named in a challenge of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import urlencode, urlsplit

from masu.errors import FailedPrecondition, PermissionDenied, Unavailable
from masu.registry.challenge import Challenge
from masu.registry.credentials import Credentials
from masu.spec import jsontext

CLIENT_ID = "masu"
# The token specification: a token without expires_in lives for 60 seconds.
_DEFAULT_LIFE_S = 60.0
# Asked for anew a little before its end, for the clock and the way there.
_MARGIN_S = 5.0
_TOKEN_LIMIT_CHARS = 64 << 10

# (method, url, headers, form) -> (status, body); raises what the transport raises.
Ask = Callable[[str, str, dict[str, str], bytes | None], Awaitable[tuple[int, bytes]]]


class Authenticator:
    """The credentials and tokens of one endpoint.

    `find` looks the credentials up, once, when they are first needed (it may run a helper, so it is called in
    a thread); `ask` is the transport to the token server.
    """

    def __init__(self, server: str, find: Callable[[], Credentials | None], ask: Ask) -> None:
        self._server = server
        self._find = find
        self._ask = ask
        self._found: Credentials | None = None
        self._looked = False
        self._challenge: Challenge | None = None
        self._tokens: dict[frozenset[str], tuple[str, float]] = {}
        # Layers are asked for in parallel: one of them fetches the token, the others wait for it.
        self._lock = asyncio.Lock()

    async def header(self, scopes: Iterable[str], *, plain: bool) -> str | None:
        """The Authorization header to send, or None while nothing has been asked of us."""
        if self._challenge is None:
            return None
        async with self._lock:
            return await self._header(frozenset(scopes), plain=plain)

    def learn(self, challenges: list[Challenge]) -> bool:
        """Remember what the server wants; False when there is nothing among it that we can answer."""
        for scheme in ("bearer", "basic"):
            for challenge in challenges:
                if challenge.scheme == scheme:
                    self._challenge = challenge
                    return True
        return False

    async def answer(self, challenges: list[Challenge], scopes: Iterable[str], *, used: str | None, plain: bool) -> str:
        """A header for the request that was refused with `challenges`; `used` is the one it carried.

        Raises PermissionDenied when we have nothing (more) to offer.
        """
        wanted = frozenset(scopes)
        async with self._lock:
            if not self.learn(challenges):
                kinds = ", ".join(sorted({c.scheme for c in challenges})) or "none"
                raise PermissionDenied("registry", self._server, detail=f"authentication schemes offered: {kinds}")
            token = self._tokens.get(wanted)
            if token is not None and used == f"Bearer {token[0]}":
                del self._tokens[wanted]  # expired early, revoked, or too narrow
            header = await self._header(wanted, plain=plain)
            if header is None or header == used:
                raise self._denied()
            return header

    async def _header(self, scopes: frozenset[str], *, plain: bool) -> str | None:
        challenge = self._challenge
        assert challenge is not None
        if challenge.scheme == "basic":
            credentials = await self._credentials()
            if credentials is None or not (credentials.username or credentials.password):
                raise self._denied()
            return credentials.basic()
        token = self._tokens.get(scopes)
        if token is None or token[1] <= time.monotonic():
            token = await self._fetch(challenge, scopes, plain=plain)
            self._tokens[scopes] = token
        return f"Bearer {token[0]}"

    async def _credentials(self) -> Credentials | None:
        if not self._looked:
            self._found = await asyncio.to_thread(self._find)
            self._looked = True
        return self._found

    def _denied(self) -> PermissionDenied:
        known = "the credentials for it were refused" if self._found else "no credentials for it are known"
        return PermissionDenied(
            "registry", self._server, detail=known, hint="credentials are read from ~/.docker/config.json: docker login"
        )

    async def _fetch(self, challenge: Challenge, scopes: frozenset[str], *, plain: bool) -> tuple[str, float]:
        credentials = await self._credentials()
        if credentials is not None and credentials.registry_token:
            return credentials.registry_token, float("inf")
        realm = challenge.parameters.get("realm", "")
        self._check_realm(realm, plain=plain)
        wanted = sorted(scopes | frozenset(challenge.parameters.get("scope", "").split()))
        service = challenge.parameters.get("service", "")
        started = time.monotonic()
        if credentials is not None and credentials.identity_token:
            fields = [("grant_type", "refresh_token"), ("service", service), ("client_id", CLIENT_ID)]
            fields += [("scope", " ".join(wanted)), ("refresh_token", credentials.identity_token)]
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            status, body = await self._ask("POST", realm, headers, urlencode(fields).encode())
        else:
            query = [("service", service)] if service else []
            query += [("scope", scope) for scope in wanted]
            headers = {}
            if credentials is not None:
                query.append(("account", credentials.username))
                headers["Authorization"] = credentials.basic()
            url = realm + ("&" if urlsplit(realm).query else "?") + urlencode(query) if query else realm
            status, body = await self._ask("GET", url, headers, None)
        if status in (400, 401, 403):
            # Distribution's token specification has the same three for "not with these credentials".
            raise self._denied()
        if status != 200:
            raise Unavailable("token server", realm, detail=f"answered with status {status}")
        return self._parse(body, realm, started)

    def _parse(self, body: bytes, realm: str, started: float) -> tuple[str, float]:
        answer = jsontext.loads(body, name=realm)
        if not isinstance(answer, dict):
            raise Unavailable("token server", realm, detail="answered without a JSON object")
        token = answer.get("token") or answer.get("access_token")
        life = answer.get("expires_in")
        # The token goes into a header: nothing but printable ASCII may pass (RFC 6750, 2.1 is narrower still).
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or " " in token:
            raise Unavailable("token server", realm, detail="answered without a usable token")
        if len(token) > _TOKEN_LIMIT_CHARS:
            raise Unavailable("token server", realm, detail=f"the token has {len(token)} characters")
        if not isinstance(life, (int, float)) or isinstance(life, bool) or life <= 0:
            life = _DEFAULT_LIFE_S
        return token, started + max(float(life) - _MARGIN_S, 1.0)

    def _check_realm(self, realm: str, *, plain: bool) -> None:
        parts = urlsplit(realm)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise FailedPrecondition("token server", realm, detail=f"{self._server} names no usable realm")
        # CVE-2019-10214: a registry reached by https must not make us send a password over plain http.
        if parts.scheme == "http" and not plain:
            raise FailedPrecondition(
                "token server", realm, detail=f"plain http, although {self._server} was reached by https"
            )
