"""Which servers answer for a registry: mirror rules, certificates, plain http.

Three sources, the most specific match wins (an exact name, then the longest `*.suffix`, then `*`); on a tie
the first source of this list:

1. `registries.toml` (`$MASU_REGISTRIES`, else `/etc/masu/registries.toml`):

       [[registry]]
       name = "*"                          # "docker.io", "localhost:5000", "*.example.com", or "*" for every one
       fallback = false                    # do not ask the registry itself when the mirrors cannot serve
       [[registry.mirror]]
       url = "http://127.0.0.1:5000"       # the scheme decides; a path becomes a prefix of the repository
       ca = "/etc/masu/mirror-ca.pem"      # also client_cert, client_key, skip_verify, push

2. containerd's `hosts.toml` in `/etc/containerd/certs.d/<host>/`, `_default` standing for every registry;
3. nothing: the registry itself by https, plain http too on loopback and where the caller said `insecure`.

CA certificates (`*.crt`) and client pairs (`*.cert`, `*.key`) are added to the system's trust from
`/etc/masu/certs.d`, `/etc/docker/certs.d` and `/etc/containerd/certs.d`, each with a directory per host.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from masu.errors import InvalidArgument, KernelError, closest

DEFAULT_FILE = "/etc/masu/registries.toml"
CERTIFICATE_DIRS = ("/etc/masu/certs.d", "/etc/docker/certs.d", "/etc/containerd/certs.d")
HOSTS_DIRS = ("/etc/containerd/certs.d",)
# A rules file is written by an administrator; the bound is against reading a device or a log by mistake.
FILE_LIMIT_BYTES = 1 << 20

DOCKER_HUB = "docker.io"
# Docker Hub's registry does not live under the name in its references.
DOCKER_HUB_HOST = "registry-1.docker.io"
_DOCKER_HUB_NAMES = (DOCKER_HUB, "index.docker.io", DOCKER_HUB_HOST, "www.docker.io")

PULL = frozenset({"pull", "resolve"})
EVERYTHING = frozenset({"pull", "resolve", "push"})


@dataclass(frozen=True)
class Tls:
    """Trust beyond the system's: CA files, client certificate pairs, or no verification at all."""

    ca_files: tuple[str, ...] = ()
    client_pairs: tuple[tuple[str, str], ...] = ()
    skip_verify: bool = False


@dataclass(frozen=True)
class Endpoint:
    """One server that may answer for a registry.

    `host` is `name[:port]`, `schemes` the ones to try in order, `prefix` is put before the repository's path
    ("dockerhub/"), `mirror_of` names the registry a mirror stands for, "" for the registry itself.
    """

    host: str
    schemes: tuple[str, ...] = ("https",)
    prefix: str = ""
    mirror_of: str = ""
    tls: Tls = Tls()
    headers: tuple[tuple[str, str], ...] = ()
    capabilities: frozenset[str] = EVERYTHING

    def __str__(self) -> str:
        text = f"{self.schemes[0]}://{self.host}"
        return f"{text}/{self.prefix.rstrip('/')}" if self.prefix else text


@dataclass(frozen=True)
class Mirror:
    url: str
    capabilities: frozenset[str] = PULL
    tls: Tls = Tls()
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Rule:
    """What one table of a rules file says about the registries that `name` matches."""

    name: str
    mirrors: tuple[Mirror, ...] = ()
    fallback: bool = True
    insecure: bool = False
    tls: Tls = Tls()
    server: str = ""  # hosts.toml: the URL of the registry itself when it is not its name

    def specificity(self, domain: str) -> int:
        """How well the rule fits `domain`: -1 not at all, 0 for "*", more for a longer match."""
        if self.name == "*":
            return 0
        if self.name.startswith("*."):
            return len(self.name) if domain.endswith(self.name[1:]) else -1
        return 1 << 16 if self.name == domain else -1


@dataclass(frozen=True)
class Rules:
    """All that is configured; `endpoints` answers for one registry."""

    rules: tuple[Rule, ...] = ()
    certificate_dirs: tuple[str, ...] = CERTIFICATE_DIRS
    hosts_dirs: tuple[str, ...] = HOSTS_DIRS

    def endpoints(self, domain: str, *, capability: str = "pull", insecure: bool = False) -> tuple[Endpoint, ...]:
        """The servers to ask for `domain` ("docker.io", "localhost:5000"), in order; never empty.

        `insecure`: the caller accepts plain http and unverified certificates for the registry itself.
        Raises InvalidArgument where a hosts.toml cannot be understood.
        """
        domain = _canonical(domain)
        rule = self._rule(domain)
        found = [self._mirror(m, domain) for m in rule.mirrors if capability in m.capabilities]
        if rule.fallback or not found:
            found.append(self._origin(rule, domain, insecure or rule.insecure))
        return tuple(found)

    def tls_for(self, host: str) -> Tls:
        """Certificates that the certs.d directories hold for `host` (`name[:port]`)."""
        ca_files: list[str] = []
        pairs: list[tuple[str, str]] = []
        for directory in _host_directories(self.certificate_dirs, host):
            for name in _listdir(directory):
                path = os.path.join(directory, name)
                if name.endswith(".crt"):
                    ca_files.append(path)
                elif name.endswith(".cert"):
                    key = path[: -len("cert")] + "key"
                    if not os.path.exists(key):
                        raise InvalidArgument(
                            "client certificate", path, detail=f"there is no {key} beside it", where=directory
                        )
                    pairs.append((path, key))
        return Tls(tuple(ca_files), tuple(pairs))

    def _rule(self, domain: str) -> Rule:
        best, best_score = Rule(domain), -1
        candidates = list(self.rules)
        for name in (domain, "_default"):
            hosts = self._hosts_toml(name, domain)
            if hosts is not None:
                candidates.append(hosts)
        for rule in candidates:
            score = rule.specificity(domain)
            if score > best_score:
                best, best_score = rule, score
        return best

    def _hosts_toml(self, directory_name: str, domain: str) -> Rule | None:
        for directory in _host_directories(self.hosts_dirs, directory_name):
            path = os.path.join(directory, "hosts.toml")
            data = _read_toml(path, missing_ok=True)
            if data is not None:
                return _parse_hosts_toml(data, path, "*" if directory_name == "_default" else domain)
        return None

    def _mirror(self, mirror: Mirror, domain: str) -> Endpoint:
        endpoint = _endpoint(mirror.url, "mirror")
        return replace(
            endpoint,
            mirror_of=domain,
            tls=_merge(mirror.tls, self.tls_for(endpoint.host)),
            headers=mirror.headers,
            capabilities=mirror.capabilities,
        )

    def _origin(self, rule: Rule, domain: str, insecure: bool) -> Endpoint:
        host = DOCKER_HUB_HOST if domain == DOCKER_HUB else domain
        if rule.server:
            endpoint = _endpoint(rule.server, "server")
        elif is_loopback(host):
            # Nobody listens in between; most registries there are a developer's, without certificates. A TLS
            # server answers a plain request at once with an error, so asking plainly first costs little, while
            # a plain server may wait for ever for the rest of a ClientHello.
            endpoint = Endpoint(host, ("http", "https"))
        elif insecure:
            endpoint = Endpoint(host, ("https", "http"))
        else:
            endpoint = Endpoint(host)
        tls = _merge(rule.tls, self.tls_for(endpoint.host))
        if insecure:
            tls = replace(tls, skip_verify=True)
        return replace(endpoint, tls=tls)


def load(path: str | None = None, environ: Mapping[str, str] | None = None) -> Rules:
    """The machine's rules: from `path`, else `$MASU_REGISTRIES`, else `/etc/masu/registries.toml` if it is there.

    An empty `$MASU_REGISTRIES` means no file. Raises InvalidArgument for a file that cannot be understood or,
    when it was named, is not there.
    """
    environ = os.environ if environ is None else environ
    named = path if path is not None else environ.get("MASU_REGISTRIES")
    if named == "":
        return Rules()
    file = named or DEFAULT_FILE
    data = _read_toml(file, missing_ok=named is None)
    return Rules(_parse_rules(data, file)) if data is not None else Rules()


def is_loopback(host: str) -> bool:
    """Whether `host` (`name[:port]`, `[::1]:5000`) can only be this machine."""
    name = urlsplit("//" + host).hostname or ""
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, 6.3
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _canonical(domain: str) -> str:
    return DOCKER_HUB if domain in _DOCKER_HUB_NAMES else domain.lower()


def _endpoint(url: str, where: str) -> Endpoint:
    parts = _checked_url(url, where)
    path = parts.path.strip("/")
    # containerd writes the API's root into the URL (override_path); the prefix is what follows it.
    if path == "v2" or path.startswith("v2/"):
        path = path[2:].strip("/")
    return Endpoint(parts.netloc.lower(), (parts.scheme,), prefix=f"{path}/" if path else "")


class _Url:
    __slots__ = ("netloc", "path", "scheme")

    def __init__(self, scheme: str, netloc: str, path: str) -> None:
        self.scheme, self.netloc, self.path = scheme, netloc, path


def _checked_url(url: str, where: str) -> _Url:
    parts = urlsplit(url if "://" in url else f"https://{url}")
    problem = ""
    try:
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        port_ok = False
    if parts.scheme not in ("http", "https"):
        problem = "the scheme must be http or https"
    elif not parts.hostname or not port_ok:
        problem = "a host name and, where needed, a port are wanted"
    elif "@" in parts.netloc:
        problem = "no credentials in a URL: they belong into ~/.docker/config.json"
    elif parts.query or parts.fragment or ".." in parts.path.split("/") or not url.isprintable():
        problem = "only scheme, host and path are wanted"
    if problem:
        raise InvalidArgument("registry URL", url, detail=problem, where=where)
    return _Url(parts.scheme, parts.netloc, parts.path)


def _merge(own: Tls, found: Tls) -> Tls:
    return Tls(own.ca_files + found.ca_files, own.client_pairs + found.client_pairs, own.skip_verify)


def _host_directories(roots: tuple[str, ...], host: str) -> list[str]:
    # A host comes out of a reference or a URL: letters, digits, dots, hyphens, a port, brackets. It becomes a
    # file name here, so anything else is not looked up at all.
    if not host or host in (".", "..") or "/" in host or "\0" in host:
        return []
    names = [host]
    name, colon, port = host.rpartition(":")
    if colon and port.isdigit():
        names += [f"{name}_{port}_", name]  # containerd's spelling for file systems without ":", then the bare host
    return [os.path.join(root, n) for root in roots for n in names if n]


def _listdir(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as e:
        raise KernelError("open", path, e.errno or 0) from e


def _read_toml(path: str, *, missing_ok: bool) -> dict[str, object] | None:
    try:
        with open(path, "rb") as file:
            raw = file.read(FILE_LIMIT_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as e:
        if missing_ok:
            return None
        raise InvalidArgument("registries file", path, detail="there is no such file", where="MASU_REGISTRIES") from e
    except OSError as e:
        raise KernelError("open", path, e.errno or 0) from e
    if len(raw) > FILE_LIMIT_BYTES:
        raise InvalidArgument("registries file", path, detail=f"larger than {FILE_LIMIT_BYTES} bytes")
    try:
        return tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise InvalidArgument("TOML", path, detail=str(e)) from e


class _Table:
    """A TOML table read key by key; what is left over at the end is a spelling mistake."""

    def __init__(self, data: object, where: str) -> None:
        if not isinstance(data, dict):
            raise InvalidArgument("table", repr(data), detail="a table is wanted", where=where)
        self.data: dict[str, object] = dict(data)
        self.where = where
        self.seen: list[str] = []

    def text(self, key: str, default: str = "") -> str:
        value = self._take(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, value, "a string")
        return value

    def flag(self, key: str, *, default: bool = False) -> bool:
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A string or a list of strings."""
        value = self._take(key, [])
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            raise self._wrong(key, value, "a string or a list of strings")
        return tuple(values)

    def tables(self, key: str) -> list[_Table]:
        value = self._take(key, [])
        if not isinstance(value, list):
            raise self._wrong(key, value, f"an array of tables, [[{key}]]")
        return [_Table(item, f"{self.where}{key}[{i}].") for i, item in enumerate(value)]

    def named_tables(self, key: str) -> list[tuple[str, _Table]]:
        value = self._take(key, {})
        if not isinstance(value, dict):
            raise self._wrong(key, value, "a table of tables")
        return [(name, _Table(item, f'{self.where}{key}."{name}".')) for name, item in value.items()]

    def raw(self, key: str) -> object:
        return self._take(key, None)

    def done(self) -> None:
        for key in self.data:
            raise InvalidArgument("key", key, where=self.where.rstrip("."), hint=closest(key, self.seen))

    def _take(self, key: str, default: object) -> object:
        self.seen.append(key)
        return self.data.pop(key, default)

    def _wrong(self, key: str, value: object, wanted: str) -> InvalidArgument:
        return InvalidArgument("value", repr(value), detail=f"{wanted} is wanted", where=f"{self.where}{key}")


def _parse_rules(data: dict[str, object], path: str) -> tuple[Rule, ...]:
    top = _Table(data, f"{path}: ")
    rules: list[Rule] = []
    names: set[str] = set()
    for table in top.tables("registry"):
        name = table.text("name")
        if (
            not name
            or "/" in name
            or not name.isprintable()
            or ("*" in name[1:])
            or (name.startswith("*") and (name != "*" and not name.startswith("*.")))
        ):
            raise InvalidArgument(
                "registry name", name, detail='a host, "*.example.com" or "*" is wanted', where=f"{table.where}name"
            )
        name = _canonical(name)
        if name in names:
            raise InvalidArgument("registry name", name, detail="named twice", where=f"{table.where}name")
        names.add(name)
        mirrors = []
        for entry in table.tables("mirror"):
            url = entry.text("url")
            _checked_url(url, f"{entry.where}url")
            capabilities = EVERYTHING if entry.flag("push") else PULL
            mirrors.append(Mirror(url, capabilities, _tls(entry, path)))
            entry.done()
        rules.append(
            Rule(
                name,
                tuple(mirrors),
                fallback=table.flag("fallback", default=True),
                insecure=table.flag("insecure"),
                tls=_tls(table, path),
            )
        )
        table.done()
    top.done()
    return tuple(rules)


def _tls(table: _Table, path: str) -> Tls:
    base = os.path.dirname(os.path.abspath(path))
    ca_files = tuple(os.path.join(base, ca) for ca in table.texts("ca"))
    cert, key = table.text("client_cert"), table.text("client_key")
    if bool(cert) != bool(key):
        raise InvalidArgument(
            "client certificate", cert or key, detail="client_cert and client_key go together", where=table.where
        )
    pairs = ((os.path.join(base, cert), os.path.join(base, key)),) if cert else ()
    return Tls(ca_files, pairs, table.flag("skip_verify"))


def _parse_hosts_toml(data: dict[str, object], path: str, name: str) -> Rule:
    # containerd, docs/hosts.md. Keys that we do not know are left alone: the file is another program's.
    top = _Table(data, f"{path}: ")
    mirrors = [_hosts_entry(url, entry, path) for url, entry in top.named_tables("host")]
    server = top.text("server")
    if server:
        _checked_url(server, f"{path}: server")
    # The registry itself may be one of the hosts; then its table says how to reach it, in that place.
    own = _hosts_entry(server or f"https://{name}", top, path)
    return Rule(name, tuple(mirrors), tls=own.tls, server=server)


def _hosts_entry(url: str, table: _Table, path: str) -> Mirror:
    _checked_url(url, table.where)
    base = os.path.dirname(os.path.abspath(path))
    client = table.raw("client") or []
    pairs: list[tuple[str, str]] = []
    entries = client if isinstance(client, list) else [client]
    # A single pair may be written flat: ["cert", "key"].
    if len(entries) == 2 and all(isinstance(e, str) for e in entries):
        entries = [entries]
    for entry in entries:
        both = [entry, entry] if isinstance(entry, str) else entry
        if not isinstance(both, list) or len(both) != 2 or not all(isinstance(e, str) for e in both):
            raise InvalidArgument(
                "value", repr(entry), detail="a pair of files is wanted", where=f"{table.where}client"
            )
        pairs.append((os.path.join(base, both[0]), os.path.join(base, both[1])))
    headers: list[tuple[str, str]] = []
    raw_headers = table.raw("header")
    for key, value in raw_headers.items() if isinstance(raw_headers, dict) else ():
        for single in value if isinstance(value, list) else [value]:
            if not isinstance(single, str) or not single.isprintable():
                raise InvalidArgument("header", f"{key}: {single!r}", where=f"{table.where}header")
            headers.append((key, single))
    given = table.texts("capabilities")
    return Mirror(
        url,
        frozenset(given) if given else EVERYTHING,
        Tls(tuple(os.path.join(base, ca) for ca in table.texts("ca")), tuple(pairs), table.flag("skip_verify")),
        tuple(headers),
    )
