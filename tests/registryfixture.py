"""Registries for tests: Debian's own, one that misbehaves on request, a token server.

Everything listens on loopback, on a port that the kernel chose, and ends by its pid or its thread.

    with DockerRegistry(tmp_path) as registry: ...            # the real one; registry.host is "127.0.0.1:40123"
    with FaultyRegistry() as registry:
        registry.add("team/app", "1", image)
        registry.fault("/blobs/", HangUp(after=1000))          # the next matching request only
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import http.server
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"

USER, PASSWORD = "tester", "correct horse"
# bcrypt of PASSWORD (cost 4: a test need not wait), the only kind that the registry accepts.
HTPASSWD = "$2b$04$bNE83M3lWehmuacXVMoydei.xWGTPTBC6SuZxOyZVIZ52sPwpGdsC"


def docker_registry() -> str | None:
    """The path of Debian's registry, None where it is not installed."""
    return shutil.which("docker-registry")


class DockerRegistry:
    """Debian's docker-registry on a port of its own, storing below `folder`.

    `htpasswd` asks for USER and PASSWORD; `token` is (realm, service, issuer, CA bundle) for token authentication;
    `tls` is (certificate, key), `client_ca` the CA of the certificates that clients must show.
    """

    def __init__(
        self,
        folder: Path,
        *,
        htpasswd: bool = False,
        token: tuple[str, str, str, Path] | None = None,
        tls: tuple[Path, Path] | None = None,
        client_ca: Path | None = None,
    ) -> None:
        self._folder = folder / f"registry-{os.urandom(4).hex()}"
        self._folder.mkdir(parents=True)
        lines = ["version: 0.1", "log: {level: info, formatter: text, accesslog: {disabled: true}}", "storage:"]
        lines += [f"  filesystem: {{rootdirectory: {self._folder}/data}}", "  delete: {enabled: true}"]
        lines += ["http:", "  addr: 127.0.0.1:0"]
        if tls:
            lines += ["  tls:", f"    certificate: {tls[0]}", f"    key: {tls[1]}"]
            if client_ca:
                lines += ["    clientcas:", f"      - {client_ca}"]
        if htpasswd:
            (self._folder / "htpasswd").write_text(f"{USER}:{HTPASSWD}\n")
            lines += ["auth:", f"  htpasswd: {{realm: test, path: {self._folder}/htpasswd}}"]
        if token:
            realm, service, issuer, bundle = token
            lines += ["auth:", "  token:", f"    realm: {realm}", f"    service: {service}"]
            lines += [f"    issuer: {issuer}", f"    rootcertbundle: {bundle}"]
        (self._folder / "config.yml").write_text("\n".join(lines) + "\n")
        self.scheme = "https" if tls else "http"
        self.host = ""
        self.port = 0

    def __enter__(self) -> Self:
        program = docker_registry()
        assert program, "docker-registry is not installed"
        # stderr is read to its end by a thread: a full pipe would stop the registry.
        self._process = subprocess.Popen(
            [program, "serve", str(self._folder / "config.yml")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[str] = []
        listening = threading.Event()

        def read() -> None:
            assert self._process.stderr is not None
            for line in self._process.stderr:
                self.log.append(line)
                found = re.search(r"listening on (127\.0\.0\.1:(\d+))", line)
                if found:
                    self.host, self.port = found[1], int(found[2])
                    listening.set()
            listening.set()

        self._reader = threading.Thread(target=read)
        self._reader.start()
        if not listening.wait(30) or not self.host:
            self.__exit__(None, None, None)
            raise AssertionError("docker-registry did not start:\n" + "".join(self.log))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"


@dataclass(frozen=True)
class TestImage:
    """An image as documents and blobs; `manifest` is the target's bytes."""

    __test__ = False

    media_type: str
    manifest: bytes
    blobs: dict[str, bytes]
    documents: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # children of an index
    layers: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)

    def descriptor(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.manifest)}


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer_tar(files: dict[str, bytes]) -> bytes:
    """An uncompressed layer with these files, the same bytes each time."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def random_bytes(n: int, seed: int = 0) -> bytes:
    """Bytes that do not compress, the same for the same seed."""
    return hashlib.shake_256(str(seed).encode()).digest(n)


def image(
    layers: Iterable[dict[str, bytes]],
    *,
    docker: bool = False,
    compress: bool = True,
    architecture: str = "amd64",
    variant: str = "",
    config: dict[str, Any] | None = None,
) -> TestImage:
    """A small image made of layers given as {name: content}."""
    tars = [layer_tar(files) for files in layers]
    packed = [gzip.compress(tar, 1, mtime=0) if compress else tar for tar in tars]
    facts: dict[str, Any] = {"architecture": architecture, "os": "linux", "config": config or {"Cmd": ["/bin/sh"]}}
    if variant:
        facts["variant"] = variant
    facts["rootfs"] = {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]}
    facts["history"] = [{"created_by": f"layer {i}"} for i in range(len(tars))]
    raw_config = json.dumps(facts).encode()
    if docker:
        layer_type, config_type, media_type = DOCKER_LAYER_GZIP, DOCKER_CONFIG, DOCKER_MANIFEST
    else:
        layer_type, config_type, media_type = OCI_LAYER + ("+gzip" if compress else ""), OCI_CONFIG, OCI_MANIFEST
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": {"mediaType": config_type, "digest": digest_of(raw_config), "size": len(raw_config)},
            "layers": [{"mediaType": layer_type, "digest": digest_of(p), "size": len(p)} for p in packed],
        }
    ).encode()
    blobs = {digest_of(b): b for b in (raw_config, *packed)}
    return TestImage(media_type, manifest, blobs, layers=tuple(digest_of(p) for p in packed))


def index(images: dict[str, TestImage], extra: Iterable[dict[str, Any]] = ()) -> TestImage:
    """An index over images by platform: {"linux/amd64": …}."""
    entries: list[dict[str, Any]] = []
    blobs: dict[str, bytes] = {}
    documents: dict[str, tuple[str, bytes]] = {}
    for name, one in images.items():
        os_name, architecture, *variant = name.split("/")
        platform = {"os": os_name, "architecture": architecture} | ({"variant": variant[0]} if variant else {})
        entries.append({**one.descriptor(), "platform": platform})
        blobs |= one.blobs
        documents[one.digest] = (one.media_type, one.manifest)
    entries += extra
    raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    return TestImage(OCI_INDEX, raw, blobs, documents)


# What a FaultyRegistry can do to a request. Each is a function of the handler and of the good answer.


@dataclass(frozen=True)
class Reply:
    """A good answer, before a fault changes it."""

    status: int
    headers: dict[str, str]
    body: bytes


Fault = Callable[["Handler", Reply], None]


def hang_up(after: int) -> Fault:
    """Announce the whole body, send `after` bytes of it, close."""

    def run(handler: Handler, reply: Reply) -> None:
        handler.send(Reply(reply.status, reply.headers, reply.body), limit=after)
        handler.close_connection = True

    return run


def truncate(after: int) -> Fault:
    """A shorter body, announced as if it were whole: Content-Length says `after`."""

    def run(handler: Handler, reply: Reply) -> None:
        headers = {**reply.headers, "Content-Length": str(after)}
        handler.send(Reply(reply.status, headers, reply.body[:after]))

    return run


def unannounced(after: int | None = None) -> Fault:
    """The body (or its first bytes) without Content-Length, ended by closing."""

    def run(handler: Handler, reply: Reply) -> None:
        headers = {k: v for k, v in reply.headers.items() if k != "Content-Length"}
        handler.send(Reply(reply.status, {**headers, "Connection": "close"}, reply.body[:after]))
        handler.close_connection = True

    return run


def replace_body(body: bytes) -> Fault:
    def run(handler: Handler, reply: Reply) -> None:
        handler.send(Reply(reply.status, {**reply.headers, "Content-Length": str(len(body))}, body))

    return run


def status(code: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Fault:
    def run(handler: Handler, reply: Reply) -> None:
        handler.send(Reply(code, {"Content-Length": str(len(body)), **(headers or {})}, body))

    return run


def redirect(location: str, code: int = 307) -> Fault:
    return status(code, {"Location": location})


def stall(release: threading.Event, after: int = 0) -> Fault:
    """Send `after` bytes, then nothing until `release` is set."""

    def run(handler: Handler, reply: Reply) -> None:
        handler.send(reply, limit=after)
        release.wait(60)
        handler.close_connection = True

    return run


def trickle(release: threading.Event) -> Fault:
    """A byte at a time, slowly, until `release` is set."""

    def run(handler: Handler, reply: Reply) -> None:
        handler.send(reply, limit=0)
        for at in range(len(reply.body)):
            handler.wfile.write(reply.body[at : at + 1])
            handler.wfile.flush()
            if release.wait(0.02):
                break
        handler.close_connection = True

    return run


def no_ranges() -> Fault:
    """Answer as a server that has never heard of Range."""

    def run(handler: Handler, reply: Reply) -> None:
        handler.send(handler.whole())

    return run


def drop() -> Fault:
    """Close without a word."""

    def run(handler: Handler, reply: Reply) -> None:
        handler.close_connection = True

    return run


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]


class FaultyRegistry:
    """A registry with images in memory which does as told; pull side only, and anything else at fixed paths."""

    def __init__(self, *, address: str = "127.0.0.1") -> None:
        self.address = address
        self.requests: list[Seen] = []
        self.served: dict[str, int] = {}  # bytes of body by path
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}
        self.files: dict[str, Reply] = {}
        self.check: Callable[[Handler], Reply | None] = lambda handler: None
        self.lock = threading.Lock()
        self._faults: list[tuple[str, Fault | BrokenUpload | Refused, list[int]]] = []

    def add(self, repository: str, tag: str, one: TestImage) -> None:
        for name in (tag, one.digest):
            self.manifests[f"{repository}/manifests/{name}"] = (one.media_type, one.manifest)
        for digest, document in one.documents.items():
            self.manifests[f"{repository}/manifests/{digest}"] = document
        for digest, data in one.blobs.items():
            self.blobs[f"{repository}/blobs/{digest}"] = data

    def fault(self, part: str, fault: Fault | BrokenUpload | Refused, *, times: int = 1) -> None:
        """The next `times` requests with `part` in their method and path ("PUT /v2/x/manifests/1") get `fault`."""
        with self.lock:
            self._faults.append((part, fault, [times]))

    def take_fault(self, path: str) -> Fault | BrokenUpload | Refused | None:
        with self.lock:
            for part, fault, left in self._faults:
                if part in path and left[0] > 0:
                    left[0] -= 1
                    return fault
        return None

    def answer(self, handler: Handler) -> Reply:
        """The good answer to a request, without regard to Range."""
        path = urlsplit(handler.path).path
        if path in ("/v2/", "/v2"):
            return Reply(200, {"Content-Length": "2"}, b"{}")
        if path in self.files:
            return self.files[path]
        name = path.removeprefix("/v2/")
        if name in self.manifests:
            media_type, raw = self.manifests[name]
            headers = {"Content-Type": media_type, "Docker-Content-Digest": digest_of(raw)}
            return Reply(200, {**headers, "Content-Length": str(len(raw))}, raw)
        if name in self.blobs:
            data = self.blobs[name]
            return Reply(200, {"Content-Type": "application/octet-stream", "Content-Length": str(len(data))}, data)
        body = b'{"errors":[{"code":"NAME_UNKNOWN","message":"nothing of that name"}]}'
        return Reply(404, {"Content-Type": "application/json", "Content-Length": str(len(body))}, body)

    def count(self, part: str, method: str = "GET") -> int:
        return sum(part in seen.path and seen.method == method for seen in self.requests)

    def bytes_served(self, part: str) -> int:
        return sum(n for path, n in self.served.items() if part in path)

    def __enter__(self) -> Self:
        registry = self

        Bound = type("Bound", (Handler,), {"owner": registry})

        self._server = http.server.ThreadingHTTPServer((self.address, 0), Bound)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.port = self._server.server_address[1]
        self.host = f"{self.address}:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://{self.host}"


class Handler(http.server.BaseHTTPRequestHandler):
    owner: FaultyRegistry
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            pass  # the client gave up, as many of these tests want it

    def do_GET(self) -> None:
        owner = self.owner
        with owner.lock:
            owner.requests.append(Seen(self.command, self.path, dict(self.headers.items())))
        self.length = int(self.headers.get("Content-Length") or 0)
        fault = owner.take_fault(f"{self.command} {self.path}")
        if isinstance(fault, BrokenUpload | Refused):
            fault(self)
            return
        self.body = self.rfile.read(self.length) if self.length else b""
        denied = owner.check(self)
        if denied is not None:
            self.send(denied)
        elif fault is not None:
            fault(self, self.reply())
        else:
            self.send(self.reply())

    do_HEAD = do_POST = do_PUT = do_PATCH = do_GET

    def whole(self) -> Reply:
        return self.owner.answer(self)

    def reply(self) -> Reply:
        reply = self.whole()
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not asked or reply.status != 200:
            return reply
        start, size = int(asked[1]), len(reply.body)
        if start >= size:
            return Reply(416, {"Content-Range": f"bytes */{size}", "Content-Length": "0"}, b"")
        part = reply.body[start:]
        headers = {"Content-Range": f"bytes {start}-{size - 1}/{size}", "Content-Length": str(len(part))}
        return Reply(206, {**reply.headers, **headers}, part)

    def send(self, reply: Reply, limit: int | None = None) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        body = reply.body if limit is None else reply.body[:limit]
        # In pieces, so that the count is right when the client goes away in the middle.
        for at in range(0, len(body), 65536):
            piece = body[at : at + 65536]
            self.wfile.write(piece)
            with self.owner.lock:
                path = urlsplit(self.path).path
                self.owner.served[path] = self.owner.served.get(path, 0) + len(piece)
        self.wfile.flush()


@dataclass(frozen=True)
class BrokenUpload:
    """Take `after` bytes of a request's body, hand them to the registry behind, and close."""

    after: int

    def __call__(self, handler: Handler) -> None:
        handler.body = handler.rfile.read(self.after)
        handler.owner.answer(handler)
        handler.close_connection = True


@dataclass(frozen=True)
class Refused:
    """Answer with `code` and leave the registry behind in the dark."""

    code: int

    def __call__(self, handler: Handler) -> None:
        handler.body = handler.rfile.read(handler.length)
        handler.send(Reply(self.code, {"Content-Length": "0", "Retry-After": "0"}, b""))


class FaultyProxy(FaultyRegistry):
    """A real registry seen through a proxy that does as told."""

    def __init__(self, backend: DockerRegistry) -> None:
        super().__init__()
        self._backend = backend

    def answer(self, handler: Handler) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self._backend.port, timeout=60)
        try:
            # Host stays: the registry makes its Location from it.
            headers = {k: v for k, v in handler.headers.items() if k.lower() not in ("connection", "content-length")}
            headers["Content-Length"] = str(len(handler.body))
            connection.request(handler.command, handler.path, handler.body or None, headers)
            response = connection.getresponse()
            body = response.read()
            kept = {k: v for k, v in response.getheaders() if k.lower() not in ("connection", "transfer-encoding")}
            return Reply(response.status, {"Content-Length": str(len(body)), **kept}, body)
        finally:
            connection.close()


class TokenAuthority:
    """The token side of the protocol for a FaultyRegistry: opaque tokens, good for their scopes.

    Put `authority.check` into a registry's `check` and `authority.reply` answers at `/token` of `server`.
    """

    def __init__(self, server: FaultyRegistry, *, anonymous: bool = False, life_s: int = 300) -> None:
        self.realm_server = server
        self.anonymous = anonymous
        self.life_s = life_s
        self.valid: dict[str, set[str]] = {}
        self.issued: list[dict[str, list[str]]] = []
        self.refresh_token = "refresh-me"
        self.make_token: Callable[[set[str]], str] = lambda scopes: f"token-{os.urandom(8).hex()}"
        server.check = self._at_token_server

    def _at_token_server(self, handler: Handler) -> Reply | None:
        parts = urlsplit(handler.path)
        if parts.path != "/token":
            return None
        query = parse_qs(parts.query) if handler.command == "GET" else parse_qs(handler.body.decode())
        basic = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        given = handler.headers.get("Authorization")
        by_refresh = query.get("refresh_token") == [self.refresh_token]
        if not (given == basic or by_refresh or (self.anonymous and given is None and handler.command == "GET")):
            return Reply(401, {"Content-Length": "0"}, b"")
        scopes = {s for value in query.get("scope", []) for s in value.split()}
        token = self.make_token(scopes)
        self.valid[token] = scopes
        self.issued.append(query)
        body = json.dumps({"token": token, "expires_in": self.life_s}).encode()
        return Reply(200, {"Content-Type": "application/json", "Content-Length": str(len(body))}, body)

    def check(self, handler: Handler) -> Reply | None:
        """For the registry that these tokens open."""
        parts = urlsplit(handler.path)
        if not parts.path.startswith("/v2/"):
            return None
        found = re.match(r"/v2/(.+)/(?:manifests|blobs|tags)/", parts.path)
        scope = f"repository:{found[1]}:pull" if found else ""
        given = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        if given in self.valid and (not scope or any(s.startswith(scope) for s in self.valid[given])):
            return None
        challenge = f'Bearer realm="{self.realm_server.url}/token",service="test.registry"'
        if scope:
            challenge += f',scope="{scope}"'
        return Reply(401, {"WWW-Authenticate": challenge, "Content-Length": "0"}, b"")


class JwtSigner:
    """Tokens that docker-registry accepts: JSON web tokens, RS256, with our certificate in `x5c`.

    `bundle` goes into the registry's configuration, `token` into a TokenAuthority's `make_token`.
    """

    ISSUER, SERVICE = "test issuer", "test.registry"

    def __init__(self, folder: Path) -> None:
        self._key = folder / "token.key"
        self.bundle = folder / "token.crt"
        _openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=token server",
            "-keyout", str(self._key), "-out", str(self.bundle),
        )  # fmt: skip
        pem = self.bundle.read_text()
        self._certificate = "".join(pem.split("-----")[2].split())

    def token(self, scopes: set[str]) -> str:
        access = []
        for scope in sorted(scopes):
            kind, name, actions = scope.split(":", 2)
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.ISSUER,
            "aud": self.SERVICE,
            "sub": USER,
            "exp": now + 300,
            "nbf": now - 60,
            "iat": now,
        }
        claims["jti"] = os.urandom(8).hex()
        header = {"typ": "JWT", "alg": "RS256", "x5c": [self._certificate]}
        signed = (
            f"{_base64url(json.dumps(header).encode())}.{_base64url(json.dumps({**claims, 'access': access}).encode())}"
        )
        done = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", str(self._key)],
            input=signed.encode(),
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return f"{signed}.{_base64url(done.stdout)}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def make_ca(folder: Path) -> Path:
    """A CA of our own: `ca.crt`, `ca.key` below `folder`; returns the certificate."""
    folder.mkdir(parents=True, exist_ok=True)
    _openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=test ca", "-keyout", f"{folder}/ca.key", "-out", f"{folder}/ca.crt",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign",
    )  # fmt: skip
    return folder / "ca.crt"


def make_certificate(folder: Path, name: str = "server") -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and localhost signed by the CA in `folder`: (certificate, key)."""
    (folder / f"{name}.ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    _openssl(
        "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}",
        "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.csr",
    )  # fmt: skip
    _openssl(
        "x509", "-req", "-in", f"{folder}/{name}.csr", "-CA", f"{folder}/ca.crt", "-CAkey", f"{folder}/ca.key",
        "-CAcreateserial", "-days", "2", "-extfile", f"{folder}/{name}.ext", "-out", f"{folder}/{name}.crt",
    )  # fmt: skip
    return folder / f"{name}.crt", folder / f"{name}.key"


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def wait_until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """For what has no event to wait on: another process' progress seen from outside."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "gave up waiting"
        time.sleep(0.005)
