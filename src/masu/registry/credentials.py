"""Credentials for a registry host: the user's own, or those that docker and podman keep.

Looked up by the host that is really asked, never by what an image, a mirror or a redirect says, so that they
cannot be drawn elsewhere (CVE-2020-15157, CVE-2024-3727). Files, the first that knows the host wins:
`$DOCKER_CONFIG/config.json` or `~/.docker/config.json`, then podman's `$REGISTRY_AUTH_FILE`,
`$XDG_RUNTIME_DIR/containers/auth.json`. Within one file: `credHelpers`, then `auths`, then `credsStore`.
"""

from __future__ import annotations

import base64
import binascii
import os
import select
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from masu.errors import FailedPrecondition, InvalidArgument, KernelError, Unavailable
from masu.registry.rules import DOCKER_HUB, DOCKER_HUB_HOST
from masu.spec import jsontext

FILE_LIMIT_BYTES = 4 << 20
# docker-credential-helpers answers with one small JSON object; a keychain may ask its user to unlock it.
HELPER_LIMIT_BYTES = 1 << 20
HELPER_TIMEOUT_S = 120.0
_HELPER_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")

# docker login writes this key for Docker Hub, whatever the registry's host name is.
DOCKER_HUB_KEY = "https://index.docker.io/v1/"


@dataclass(frozen=True)
class Credentials:
    """User name and password, or an identity token (OAuth2 refresh token), or a finished bearer token."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    def basic(self) -> str:
        """The value of an Authorization header, RFC 7617."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


def lookup(host: str, environ: Mapping[str, str] | None = None, *, repository: str = "") -> Credentials | None:
    """What the user's files and helpers hold for `host` (`name[:port]`), or None.

    `repository` lets podman's longer keys ("quay.io/team") match. Blocks while a helper runs. Raises
    InvalidArgument for a file that cannot be understood, FailedPrecondition for a helper that is missing or
    fails, Unavailable for one that does not answer.
    """
    environ = os.environ if environ is None else environ
    for path in _files(environ):
        config = _read(path)
        if config is None:
            continue
        found = _from_config(config, path, host, repository, environ)
        if found is not None:
            return found
    return None


def _files(environ: Mapping[str, str]) -> list[str]:
    home = environ.get("HOME", "")
    files = []
    if environ.get("DOCKER_CONFIG"):
        files.append(os.path.join(environ["DOCKER_CONFIG"], "config.json"))
    elif home:
        files.append(os.path.join(home, ".docker/config.json"))
    if environ.get("REGISTRY_AUTH_FILE"):
        files.append(environ["REGISTRY_AUTH_FILE"])
    elif environ.get("XDG_RUNTIME_DIR"):
        files.append(os.path.join(environ["XDG_RUNTIME_DIR"], "containers/auth.json"))
    return files


def _read(path: str) -> Mapping[str, object] | None:
    try:
        with open(path, "rb") as file:
            raw = file.read(FILE_LIMIT_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        # Under sudo -u or in a service HOME may be somebody else's; then there are simply no credentials.
        return None
    except OSError as e:
        raise KernelError("open", path, e.errno or 0) from e
    if len(raw) > FILE_LIMIT_BYTES:
        raise InvalidArgument("credentials file", path, detail=f"larger than {FILE_LIMIT_BYTES} bytes")
    if not raw.strip():
        return None
    config = jsontext.loads(raw, name=path)
    if not isinstance(config, dict):
        raise InvalidArgument("credentials file", path, detail="a JSON object is wanted")
    return config


def _from_config(
    config: Mapping[str, object], path: str, host: str, repository: str, environ: Mapping[str, str]
) -> Credentials | None:
    keys = _keys(host, repository)
    helpers = _object(config, "credHelpers", path)
    for key in keys:
        helper = helpers.get(key)
        if isinstance(helper, str) and helper:
            found = ask_helper(helper, _server(host), environ)
            if found is not None:
                return found
    auths = _object(config, "auths", path)
    for key in keys:
        for name, entry in auths.items():
            if _bare(name) == key and isinstance(entry, dict):
                found = _from_entry(entry, f"{path}: auths[{name!r}]")
                if found is not None:
                    return found
    store = config.get("credsStore")
    if isinstance(store, str) and store:
        return ask_helper(store, _server(host), environ)
    return None


def _object(config: Mapping[str, object], key: str, path: str) -> Mapping[str, object]:
    value = config.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidArgument("credentials file", path, detail="an object is wanted", where=key)
    return value


def _is_hub(host: str) -> bool:
    return host in (DOCKER_HUB, DOCKER_HUB_HOST, "index.docker.io")


def _server(host: str) -> str:
    return DOCKER_HUB_KEY if _is_hub(host) else host


def _keys(host: str, repository: str) -> list[str]:
    """Keys to look for, the longest first; auths' own keys are made comparable by `_bare`."""
    hosts = ["index.docker.io", DOCKER_HUB, DOCKER_HUB_HOST] if _is_hub(host) else [host]
    keys = []
    parts = repository.split("/") if repository else []
    for name in hosts:
        keys += ["/".join([name, *parts[:n]]) for n in range(len(parts), 0, -1)]
    keys += hosts
    return [*keys, DOCKER_HUB_KEY] if _is_hub(host) else keys


def _bare(key: str) -> str:
    """`https://index.docker.io/v1/` -> `index.docker.io`; a path that is not an API's root stays."""
    key = key.removeprefix("https://").removeprefix("http://").rstrip("/")
    for suffix in ("/v1", "/v2"):
        key = key.removesuffix(suffix)
    return key


def _from_entry(entry: Mapping[str, object], where: str) -> Credentials | None:
    values: dict[str, str] = {}
    for key in ("auth", "username", "password", "identitytoken", "registrytoken"):
        value = entry.get(key, "")
        if not isinstance(value, str):
            raise InvalidArgument("credentials", key, detail="a string is wanted", where=where)
        values[key] = value
    username, password = values["username"], values["password"]
    if values["auth"]:
        try:
            decoded = base64.b64decode(values["auth"], validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as e:
            raise InvalidArgument("credentials", "auth", detail="base64 of user:password is wanted", where=where) from e
        username, colon, password = decoded.partition(":")
        if not colon:
            raise InvalidArgument("credentials", "auth", detail="base64 of user:password is wanted", where=where)
        password = password.rstrip("\0")  # docker's own writers pad with NUL
    found = Credentials(username, password, values["identitytoken"], values["registrytoken"])
    return found if found != Credentials() else None


def find_helper(name: str, environ: Mapping[str, str]) -> str:
    """The absolute path of `docker-credential-NAME` on the host's PATH.

    Relative and empty PATH entries are skipped: the working directory may be an unpacked image.
    """
    if not name or not _HELPER_LETTERS.issuperset(name):
        raise InvalidArgument("credential helper", name, detail="letters, digits, '-', '_' and '.' are allowed")
    program = f"docker-credential-{name}"
    for directory in environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(directory, program)
        if directory.startswith("/") and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise FailedPrecondition(
        "credential helper", program, detail="not found on PATH", hint="install it, or remove it from the config.json"
    )


def ask_helper(name: str, server: str, environ: Mapping[str, str]) -> Credentials | None:
    """Run a credential helper's `get` for `server`; None when it holds nothing.

    The protocol is docker-credential-helpers': the server's name on stdin, `{"ServerURL", "Username", "Secret"}`
    on stdout; the user name `<token>` marks an identity token.
    """
    path = find_helper(name, environ)
    with subprocess.Popen(
        [path, "get"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        cwd="/",
        env=dict(environ),
        start_new_session=True,
    ) as process:
        try:
            output = _converse(process, server.encode() + b"\n", path)
        except BaseException:
            process.kill()
            raise
        status = process.wait()
    text = output.decode(errors="replace").strip()
    if status != 0:
        # The protocol has no status for this; every helper of docker-credential-helpers prints these words.
        if "credentials not found" in text or "not found in native keychain" in text:
            return None
        raise FailedPrecondition("credential helper", path, detail=f"exit status {status}: {text[:200]!r}")
    answer = jsontext.loads(output, name=path)
    username = answer.get("Username") if isinstance(answer, dict) else None
    secret = answer.get("Secret") if isinstance(answer, dict) else None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise FailedPrecondition("credential helper", path, detail="an object with Username and Secret is wanted")
    if username == "<token>":
        return Credentials(identity_token=secret)
    return Credentials(username, secret) if username or secret else None


def _converse(process: subprocess.Popen[bytes], question: bytes, path: str) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    deadline = time.monotonic() + HELPER_TIMEOUT_S
    try:
        # A host name fits into any pipe, so this never blocks.
        process.stdin.write(question)
        process.stdin.close()
    except BrokenPipeError:
        pass
    output = b""
    fd = process.stdout.fileno()
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poller.poll(left * 1000):
            raise Unavailable("credential helper", path, detail=f"no answer within {HELPER_TIMEOUT_S:.0f} s")
        data = os.read(fd, 65536)
        if not data:
            return output
        output += data
        if len(output) > HELPER_LIMIT_BYTES:
            raise FailedPrecondition("credential helper", path, detail=f"answered more than {HELPER_LIMIT_BYTES} bytes")
