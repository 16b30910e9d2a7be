"""HTTP to one endpoint: redirects, challenges, retries, time limits. No knowledge of images.

Redirects are followed by hand: an Authorization header is made anew for each request and only when its target
is the endpoint's own origin (scheme, host, port); a challenge from anywhere else is not answered. Those are
CVE-2020-15157 and CVE-2024-3727. aiohttp's own conveniences (netrc, cookies, decompression) are off.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

from masu import __version__
from masu.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    MasuError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from masu.registry import challenge
from masu.registry.auth import Authenticator
from masu.registry.credentials import Credentials, lookup
from masu.registry.rules import Endpoint, Rules, Tls, is_loopback
from masu.spec import jsontext

T = TypeVar("T")

MAX_REDIRECTS = 10
ERROR_BODY_LIMIT_BYTES = 64 << 10
TOKEN_BODY_LIMIT_BYTES = 1 << 20
_REDIRECTS = (301, 302, 303, 307, 308)
# 408, 425, 429 and the 5xx that name a passing state (RFC 9110, 15.5.9 and 15.6; RFC 8470; RFC 6585).
_PASSING = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Policy:
    """How long we wait and how often we try. A try that moved data forward starts the count anew."""

    tries: int = 6
    backoff_s: float = 0.5
    backoff_cap_s: float = 20.0
    # A server that wants us to come back later than this is down for our purpose.
    retry_after_cap_s: float = 120.0
    connect_timeout_s: float = 20.0
    # No byte for so long: the connection is dead.
    stall_timeout_s: float = 60.0
    # Fewer bytes in so long: as good as dead. A modem of 1996 is above it.
    slow_window_s: float = 60.0
    slow_window_bytes: int = 32 << 10
    # A whole small answer; and the one after an upload, when the registry may hash gigabytes first.
    answer_timeout_s: float = 120.0
    commit_timeout_s: float = 300.0


class Again(Exception):
    """The request failed in a way that may pass."""

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after_s = after_s


@dataclass(frozen=True)
class Answer:
    """A whole answer: status, headers (case-insensitive), body."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


class Transport:
    """The connections of one transfer; an async context manager.

    `credentials` are for `credentials_host` alone; every other host's come from the user's files, or from `ask`, which
    is told the host and the repository and may take its time in a thread.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        policy: Policy | None = None,
        credentials: Credentials | None = None,
        credentials_host: str = "",
        ask: Callable[[str, str], Credentials | None] | None = None,
    ) -> None:
        self.rules = rules
        self.policy = policy or Policy()
        self._credentials = credentials
        self._credentials_host = credentials_host
        self._ask = ask
        self._contexts: dict[Tls, ssl.SSLContext] = {}
        self._session: aiohttp.ClientSession | None = None
        self._proxies = urllib.request.getproxies()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            # Compressed bodies must arrive as they were hashed; nobody may choose to compress them once more.
            auto_decompress=False,
            headers={"User-Agent": f"masu/{__version__}", "Accept-Encoding": "identity"},
            skip_auto_headers=("Content-Type",),
            trust_env=False,
            raise_for_status=False,
            read_bufsize=1 << 20,
            max_line_size=32 << 10,
            max_field_size=32 << 10,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    def find_credentials(self, host: str, repository: str) -> Credentials | None:
        if self._credentials is not None and host == self._credentials_host:
            return self._credentials
        if self._ask is not None:
            return self._ask(host, repository)
        return lookup(host, repository=repository)

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str], body: Body | None, tls: Tls
    ) -> aiohttp.ClientResponse:
        """One request, one answer; the caller releases it."""
        assert self._session is not None
        parts = urlsplit(url)
        context = self._context(tls) if parts.scheme == "https" else True
        sent = dict(headers)
        policy, now = self.policy, asyncio.get_running_loop().time
        wait_s = policy.stall_timeout_s if method in ("GET", "HEAD") else policy.commit_timeout_s
        async with asyncio.timeout(None) as limit:
            data: AsyncIterator[bytes] | None = None
            if body is not None:
                sent["Content-Length"] = str(body.size)
                # sock_read does not watch a write that blocks.
                data = body.stream(
                    lambda at_end: limit.reschedule(
                        now() + (policy.commit_timeout_s if at_end else policy.stall_timeout_s)
                    )
                )
            elif method in ("POST", "PUT", "PATCH"):
                sent["Content-Length"] = "0"
            return await self._session.request(
                method,
                # Signed URLs break when they are quoted anew.
                URL(url, encoded=True),
                headers=sent,
                data=data,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=policy.connect_timeout_s, sock_read=wait_s),
                ssl=context,
                proxy=self._proxy(parts.scheme, parts.netloc, parts.hostname or ""),
            )

    def _proxy(self, scheme: str, netloc: str, hostname: str) -> str | None:
        if is_loopback(netloc) or urllib.request.proxy_bypass(hostname):
            return None
        return self._proxies.get(scheme)

    def _context(self, tls: Tls) -> ssl.SSLContext:
        context = self._contexts.get(tls)
        if context is None:
            context = ssl.create_default_context()
            for path in tls.ca_files:
                _load(context.load_verify_locations, path)
            for cert, key in tls.client_pairs:
                _load(context.load_cert_chain, cert, key)
            if tls.skip_verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self._contexts[tls] = context
        return context


def _load(function: Callable[..., None], *paths: str) -> None:
    try:
        function(*paths)
    except OSError as e:  # ssl.SSLError is one
        raise InvalidArgument("certificate", paths[0], e.errno or 0, detail=str(e)) from e


@dataclass(frozen=True)
class Body:
    """What is uploaded: `size` bytes, produced anew for each try by `chunks`."""

    size: int
    chunks: Callable[[], AsyncIterator[bytes]]

    async def stream(self, alive: Callable[[bool], None]) -> AsyncIterator[bytes]:
        """The chunks; `alive` is told before each of them (False), and that all are gone (True)."""
        async for chunk in self.chunks():
            alive(False)
            yield chunk
        alive(True)


class Remote:
    """One endpoint as seen by one repository."""

    def __init__(self, transport: Transport, endpoint: Endpoint, repository: str) -> None:
        self.transport = transport
        self.endpoint = endpoint
        self.repository = endpoint.prefix + repository
        self.policy = transport.policy
        self._scheme = endpoint.schemes[0] if len(endpoint.schemes) == 1 else ""
        self._settling = asyncio.Lock()
        # Whether a connection ever worked: a refusal then is a restart, before that a wrong address.
        self._answered = False
        self._auth = Authenticator(
            str(endpoint), lambda: transport.find_credentials(endpoint.host, self.repository), self._ask_token
        )

    def __str__(self) -> str:
        return f"{self._scheme}://{self.endpoint.host}" if self._scheme else self.endpoint.host

    async def url(self, path: str) -> str:
        """The URL of `path` below this repository: `manifests/latest`."""
        await self._settle()
        url = f"{self._scheme}://{self.endpoint.host}/v2/{self.repository}/{path}"
        if self.endpoint.mirror_of:
            # containerd's way to tell a mirror of several registries which one is meant; others ignore it.
            url += ("&" if "?" in path else "?") + f"ns={self.endpoint.mirror_of}"
        return url

    async def document(
        self,
        method: str,
        path: str,
        *,
        limit_bytes: int,
        ok: Iterable[int] = (200,),
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        scopes: Iterable[str] = (),
        note: Callable[[str], None] | None = None,
        subject: tuple[str, str] | None = None,
        url: str | None = None,
        once: bool = False,
    ) -> Answer:
        """A request with an answer of at most `limit_bytes`, tried as often as the policy says.

        `url` replaces the one that `path` would give (an upload's Location). `subject` (what, object) is what an
        error is about. `once` leaves trying again to the caller, by Again.
        """

        async def attempt() -> Answer:
            target = url or await self.url(path)
            async with (
                # A trickle of single bytes would hold us for ever; an upload's time depends on its size.
                self._limit(self.policy.answer_timeout_s if body is None else None),
                self.exchange(method, target, headers=headers or {}, body=body, scopes=scopes) as response,
            ):
                if response.status not in ok:
                    raise await self.refusal(response, subject or ("request", f"{method} {target}"))
                content = b"" if method == "HEAD" else await read_bounded(response, limit_bytes, subject)
                return Answer(response.status, response.headers, content, str(response.url))

        return await attempt() if once else await self.retrying(attempt, note)

    @asynccontextmanager
    async def _limit(self, seconds: float | None) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as e:
            raise Again(f"{self}: no whole answer within {seconds:g} s") from e

    @asynccontextmanager
    async def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: Body | None = None,
        scopes: Iterable[str] = (),
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request with its redirects and challenge; failures that may pass are raised as Again."""
        scopes = tuple(scopes)
        async with AsyncExitStack() as stack:
            try:
                yield await self._exchange(stack, method, url, headers, body, scopes)
            except (aiohttp.ClientError, OSError, TimeoutError) as e:
                raise self._classify(e, url) from e

    async def _exchange(
        self,
        stack: AsyncExitStack,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | None,
        scopes: tuple[str, ...],
    ) -> aiohttp.ClientResponse:
        answered: str | None = None
        hops = 0
        while True:
            own = self._is_own(url)
            sent = dict(headers)
            authorization: str | None = None
            if own:
                sent.update(self.endpoint.headers)
                authorization = answered or await self._auth.header(scopes, plain=self._scheme == "http")
                if authorization is not None:
                    sent["Authorization"] = authorization
            response = await self.transport.send(method, url, headers=sent, body=body, tls=self._tls(url))
            self._answered = True
            stack.callback(response.close)
            if response.status == 401 and own and answered is None:
                challenges = challenge.parse(response.headers.getall("WWW-Authenticate", ()))
                await _drain(response)
                answered = await self._auth.answer(challenges, scopes, used=authorization, plain=self._scheme == "http")
                continue
            location = response.headers.get("Location", "")
            if response.status in _REDIRECTS and location:
                if method not in ("GET", "HEAD") and response.status not in (307, 308):
                    return response
                hops += 1
                if hops > MAX_REDIRECTS:
                    raise FailedPrecondition("registry", self, detail=f"more than {MAX_REDIRECTS} redirects")
                await _drain(response)
                url = self._follow(url, location)
                continue
            return response

    def _follow(self, url: str, location: str) -> str:
        target = urljoin(url, location)
        parts = urlsplit(target)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise FailedPrecondition("registry", self, detail=f"redirects to {target!r}")
        if parts.scheme == "http" and urlsplit(url).scheme == "https":
            if parts.hostname == urlsplit(url).hostname:
                # A registry behind a proxy that ends TLS does not know how it was reached.
                return target.replace("http:", "https:", 1)
            raise FailedPrecondition("registry", self, detail=f"redirects from https to plain http: {target!r}")
        return target

    def _is_own(self, url: str) -> bool:
        return _origin(url) == _origin(f"{self._scheme}://{self.endpoint.host}")

    def _tls(self, url: str) -> Tls:
        parts = urlsplit(url)
        if parts.hostname == urlsplit(f"//{self.endpoint.host}").hostname:
            return self.endpoint.tls
        return self.transport.rules.tls_for(parts.netloc)

    async def _ask_token(self, method: str, url: str, headers: dict[str, str], form: bytes | None) -> tuple[int, bytes]:
        # The token server's redirects: within its origin, or without credentials at all.
        secret = form is not None or "Authorization" in headers
        for _ in range(MAX_REDIRECTS):
            body = None if form is None else body_of(form)
            response = await self.transport.send(method, url, headers=headers, body=body, tls=self._tls(url))
            try:
                location = response.headers.get("Location", "")
                if response.status not in _REDIRECTS or not location:
                    if response.status in _PASSING:
                        raise Again(f"token server: status {response.status}", retry_after(response.headers))
                    return response.status, await read_bounded(response, TOKEN_BODY_LIMIT_BYTES, ("token server", url))
                target = urljoin(url, location)
                parts = urlsplit(target)
                if _origin(target) != _origin(url) and (secret or parts.scheme != "https" or not parts.hostname):
                    raise FailedPrecondition("token server", url, detail=f"redirects to another server: {target!r}")
                url = target
            finally:
                response.close()
        raise FailedPrecondition("token server", url, detail=f"more than {MAX_REDIRECTS} redirects")

    async def _settle(self) -> None:
        """Find out which of several schemes the server speaks."""
        if self._scheme:
            return
        async with self._settling:
            if self._scheme:
                return
            for scheme in self.endpoint.schemes[:-1]:
                url = f"{scheme}://{self.endpoint.host}/v2/"
                try:
                    response = await self.transport.send("GET", url, headers={}, body=None, tls=self.endpoint.tls)
                except (aiohttp.ClientError, OSError, TimeoutError):
                    continue
                try:
                    # 400 is what Go's and nginx' TLS servers answer to a plain request.
                    if response.status == 400:
                        continue
                    await _drain(response)
                    if response.status == 401:
                        self._auth.learn(challenge.parse(response.headers.getall("WWW-Authenticate", ())))
                    self._answered = True
                    self._scheme = scheme
                    return
                finally:
                    response.close()
            self._scheme = self.endpoint.schemes[-1]

    async def refusal(self, response: aiohttp.ClientResponse, subject: tuple[str, str]) -> MasuError | Again:
        """The error for a status that was not wanted; Again where the status says that it may pass."""
        what, obj = subject
        status = response.status
        said = await _said(response)
        detail = f"{self}: status {status}" + (f": {said}" if said else "")
        if status in _PASSING:
            return Again(detail, retry_after(response.headers))
        if status == 404:
            return NotFound(what, obj, detail=detail)
        if status == 401 or status == 403:
            return PermissionDenied(
                what, obj, detail=detail, hint="it may not exist, or need other credentials in ~/.docker/config.json"
            )
        if status == 413:
            return ResourceExhausted(what, obj, detail=detail)
        if 400 <= status < 500:
            return FailedPrecondition(what, obj, detail=detail)
        return Unavailable(what, obj, detail=detail)

    async def retrying(
        self,
        attempt: Callable[[], Awaitable[T]],
        note: Callable[[str], None] | None = None,
        progress: Callable[[], int] | None = None,
    ) -> T:
        """Await `attempt()` until it does not raise Again, as often as the policy says.

        `progress` counts what has been reached; when it has grown the tries count from nothing. `note` is told
        before each wait. Raises Unavailable when the tries are used up.
        """
        tries = 0
        reached = progress() if progress else 0
        while True:
            try:
                return await attempt()
            except Again as again:
                if progress is not None and (now := progress()) >= reached + _WORTH_BYTES:
                    tries, reached = 0, now
                tries += 1
                delay = min(self.policy.backoff_s * 2 ** (tries - 1), self.policy.backoff_cap_s)
                # Many clients lose the same server at the same moment; they must not come back together.
                delay *= 0.5 + random.random() / 2
                if again.after_s is not None:
                    delay = max(delay, again.after_s)
                if tries >= self.policy.tries or delay > self.policy.retry_after_cap_s:
                    raise Unavailable("registry", self, detail=again.reason) from again
                if note is not None:
                    note(f"Retrying in {delay:.1f} s: {again.reason}")
                await asyncio.sleep(delay)

    def _classify(self, error: Exception, url: str) -> MasuError | Again:
        host = urlsplit(url).netloc
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return FailedPrecondition(
                "registry",
                host,
                detail=f"certificate not trusted: {error.certificate_error}",
                hint=f"put its CA into /etc/masu/certs.d/{host}/ca.crt, or say that it is insecure",
            )
        if isinstance(error, aiohttp.ClientSSLError):
            return FailedPrecondition(
                "registry", host, detail=f"TLS: {error}", hint="a plain http registry must be called insecure"
            )
        if isinstance(error, aiohttp.InvalidURL):
            return FailedPrecondition("registry", host, detail=f"not a usable URL: {url!r}")
        if isinstance(error, aiohttp.ClientConnectorError) and not self._answered:
            # getaddrinfo(3) has numbers of its own, below zero
            return Unavailable("registry", host, max(error.errno or 0, 0), detail=str(error.os_error.strerror or error))
        if isinstance(error, TimeoutError):
            reason = f"no data for {self.policy.stall_timeout_s:g} s"
            if not self._answered:
                return Unavailable("registry", host, detail="no answer in time")
            return Again(f"{host}: {reason}")
        if isinstance(error, OSError) and not isinstance(error, aiohttp.ClientError | ConnectionError):
            # Not the wire's: the disk, for one.
            raise error
        return Again(f"{host}: {_describe(error)}")


# A try must bring at least so much to be forgiven: a server that sends one byte at a time is no progress.
_WORTH_BYTES = 64 << 10


def body_of(data: bytes) -> Body:
    async def chunks() -> AsyncIterator[bytes]:
        yield data

    return Body(len(data), chunks)


async def read_bounded(
    response: aiohttp.ClientResponse, limit_bytes: int, subject: tuple[str, str] | None = None
) -> bytes:
    """The body, DataLoss when it is longer than `limit_bytes`."""
    data = bytearray()
    while chunk := await response.content.readany():
        data += chunk
        if len(data) > limit_bytes:
            what, obj = subject or ("answer", str(response.url))
            raise DataLoss(what, obj, detail=f"the registry sends more than {limit_bytes} bytes")
    return bytes(data)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110, 10.2.3): a number or a date."""
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max((when - datetime.now(UTC)).total_seconds(), 0.0)


async def _drain(response: aiohttp.ClientResponse) -> None:
    # A short body read to its end lets the connection be used again; a longer one is not worth it.
    try:
        await read_bounded(response, ERROR_BODY_LIMIT_BYTES)
    except (DataLoss, aiohttp.ClientError):
        response.close()


async def _said(response: aiohttp.ClientResponse) -> str:
    """What the registry's error body says, in one printable line."""
    try:
        body = await read_bounded(response, ERROR_BODY_LIMIT_BYTES)
        data = jsontext.loads(body)
    except (MasuError, aiohttp.ClientError, TimeoutError):
        return ""
    errors = data.get("errors") if isinstance(data, dict) else None
    words: list[str] = []
    for error in errors[:4] if isinstance(errors, list) else []:
        if isinstance(error, dict):
            pair = [str(error.get(k)) for k in ("code", "message") if error.get(k)]
            words.append(": ".join(pair))
    text = "; ".join(words)[:300]
    return "".join(c if c.isprintable() else "?" for c in text)


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _describe(error: Exception) -> str:
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the server hung up"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the connection broke off"
    return str(error) or type(error).__name__
