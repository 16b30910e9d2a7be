"""`--change` of docker import and docker commit: Dockerfile instructions applied to an image's config.

Allowed are CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD STOPSIGNAL USER VOLUME WORKDIR, as Docker has it.
The config is the JSON object under "config" in the image config, in Docker's spelling.
"""

from __future__ import annotations

from masu.errors import InvalidArgument, closest
from masu.spec import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

INSTRUCTIONS = (
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
)
_SHELL = ["/bin/sh", "-c"]
_DURATIONS = {"--interval": "Interval", "--timeout": "Timeout", "--start-period": "StartPeriod"}
_UNITS_NS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def apply(config: Mapping[str, object], changes: Iterable[str]) -> dict[str, object]:
    """A copy of `config` with the instructions applied in order. Raises InvalidArgument."""
    result = dict(config)
    seen: set[str] = set()
    for i, line in enumerate(changes):
        word, _, rest = line.strip().partition(" ")
        seen.add(word.upper())
        _apply_one(result, word.upper(), rest.strip(), f"--change[{i}]")
        if word.upper() == "ENTRYPOINT" and "CMD" not in seen:
            # Docker's builder: what was inherited was meant for another entrypoint.
            result.pop("Cmd", None)
    return result


def _apply_one(config: dict[str, object], word: str, rest: str, where: str) -> None:
    if word not in INSTRUCTIONS:
        hint = closest(word, INSTRUCTIONS) or f"allowed are {' '.join(INSTRUCTIONS)}"
        raise InvalidArgument("instruction", word, where=where, hint=hint)
    if not rest:
        raise InvalidArgument("instruction", word, detail="needs an argument", where=where)
    if word == "CMD":
        config["Cmd"] = _command(rest)
    elif word == "ENTRYPOINT":
        config["Entrypoint"] = _command(rest)
    elif word == "ENV":
        old = [entry for entry in _list(config.get("Env")) if "=" in entry]
        merged = dict(entry.split("=", 1) for entry in old)
        merged.update(_pairs(rest, where))
        config["Env"] = [f"{key}={value}" for key, value in merged.items()]
    elif word == "LABEL":
        config["Labels"] = {**_map(config.get("Labels")), **dict(_pairs(rest, where))}
    elif word == "EXPOSE":
        ports: dict[str, object] = {_port(p, where): {} for p in _words(rest, where)}
        config["ExposedPorts"] = {**_map(config.get("ExposedPorts")), **ports}
    elif word == "VOLUME":
        volumes = _json_list(rest) or _words(rest, where)
        if not all(volumes):
            raise InvalidArgument("volume", rest, detail="an empty path", where=where)
        config["Volumes"] = {**_map(config.get("Volumes")), **{v: {} for v in volumes}}
    elif word == "WORKDIR":
        import posixpath

        before = config.get("WorkingDir")
        base = before if isinstance(before, str) and before else "/"
        config["WorkingDir"] = posixpath.normpath(posixpath.join("/", base, _one(rest, where)))
    elif word == "USER":
        config["User"] = _one(rest, where)
    elif word == "STOPSIGNAL":
        config["StopSignal"] = _one(rest, where)
    elif word == "ONBUILD":
        config["OnBuild"] = [*_list(config.get("OnBuild")), rest]
    else:
        config["Healthcheck"] = _healthcheck(rest, where)


def _command(text: str) -> list[str]:
    """The exec form when it is a JSON list of strings, else the shell form, as the Dockerfile reference says."""
    exec_form = _json_list(text)
    return exec_form if exec_form is not None else [*_SHELL, text]


def _json_list(text: str) -> list[str] | None:
    if not text.startswith("["):
        return None
    try:
        value = jsontext.loads(text)
    except InvalidArgument:
        return None
    return value if isinstance(value, list) and all(isinstance(v, str) for v in value) else None


def _pairs(text: str, where: str) -> list[tuple[str, str]]:
    """`a=b c="d e"`, or the old form `key the whole rest`."""
    first = text.split(None, 1)
    if "=" not in first[0]:
        if len(first) < 2:
            raise InvalidArgument("instruction", text, detail="key=value is wanted", where=where)
        return [(first[0], first[1])]
    found = []
    for word in _words(text, where):
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise InvalidArgument("instruction", word, detail="key=value is wanted", where=where)
        found.append((key, value))
    return found


def _words(text: str, where: str) -> list[str]:
    """Words with quotes and backslashes taken away."""
    words: list[str] = []
    word: list[str] | None = None
    quote = ""
    at = 0
    while at < len(text):
        c = text[at]
        at += 1
        if c == "\\" and quote != "'" and at < len(text):
            word = [*(word or []), text[at]]
            at += 1
        elif quote:
            if c == quote:
                quote = ""
            else:
                assert word is not None
                word.append(c)
        elif c in "\"'":
            quote = c
            word = word or []
        elif c in " \t":
            if word is not None:
                words.append("".join(word))
            word = None
        else:
            word = [*(word or []), c]
    if quote:
        raise InvalidArgument("instruction", text, detail=f"no closing {quote}", where=where)
    if word is not None:
        words.append("".join(word))
    return words


def _one(text: str, where: str) -> str:
    words = _words(text, where)
    if len(words) != 1 or not words[0].isprintable():
        raise InvalidArgument("instruction", text, detail="one word is wanted", where=where)
    return words[0]


def _port(text: str, where: str) -> str:
    number, _, protocol = text.partition("/")
    protocol = (protocol or "tcp").lower()
    low, dash, high = number.partition("-")
    ends = [low, high] if dash else [low]
    if protocol not in ("tcp", "udp", "sctp") or not all(
        e.isascii() and e.isdigit() and len(e) <= 5 and 0 < int(e) < 65536 for e in ends
    ):
        raise InvalidArgument("port", text, detail="a number or range with /tcp, /udp or /sctp", where=where)
    return f"{number}/{protocol}"


def _healthcheck(text: str, where: str) -> dict[str, object]:
    if text.upper() == "NONE":
        return {"Test": ["NONE"]}
    check: dict[str, object] = {}
    while text.startswith("--"):
        option, _, text = text.partition(" ")
        key, _, value = option.partition("=")
        text = text.strip()
        if key in _DURATIONS:
            check[_DURATIONS[key]] = _duration_ns(value, where)
        elif key == "--retries" and value.isascii() and value.isdigit():
            check["Retries"] = int(value)
        else:
            raise InvalidArgument(
                "health check option", option, where=where, hint=closest(key, [*_DURATIONS, "--retries"])
            )
    word, _, rest = text.partition(" ")
    if word.upper() != "CMD" or not rest.strip():
        raise InvalidArgument("health check", text, detail="NONE, or CMD with a command", where=where)
    exec_form = _json_list(rest.strip())
    return {"Test": ["CMD", *exec_form] if exec_form is not None else ["CMD-SHELL", rest.strip()], **check}


def _duration_ns(text: str, where: str) -> int:
    """Go's time.ParseDuration for what people write: `1m30s`, `500ms`, `1.5h`."""
    total, rest = 0.0, text
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        letters = len(rest[digits:]) - len(rest[digits:].lstrip("nuµmsh"))
        unit = _UNITS_NS.get(rest[digits : digits + letters])
        try:
            number = float(rest[:digits])
        except ValueError:
            unit = None
        if unit is None:
            raise InvalidArgument("duration", text, detail="a number with ns, us, ms, s, m or h", where=where)
        total += number * unit
        rest = rest[digits + letters :]
    if not text:
        raise InvalidArgument("duration", text, where=where)
    return int(total)


def _list(value: object) -> list[str]:
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []


def _map(value: object) -> dict[str, object]:
    return dict(value) if isinstance(value, dict) else {}
