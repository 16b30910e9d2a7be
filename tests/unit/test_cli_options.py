"""Command lines: both dialects, help, errors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masu.cli.options import (
    Call,
    Command,
    Entry,
    Flag,
    Help,
    Program,
    UsageError,
    arity_of,
    integer,
    natural,
)

RUN = Command(
    "run",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create and run a new container from an image",
    flags=(
        Flag("detach", "d", help="Run in the background"),
        Flag("interactive", "i"),
        Flag("tty", "t"),
        Flag("env", "e", value="list", repeated=True, help="Set environment variables"),
        Flag("hostname", "h", value="string"),
        Flag("cpu-shares", "c", value="int", convert=integer),
        Flag("pull", value="string", default="missing", choices=("always", "missing", "never"), help="When to pull"),
        Flag("network", value="string", aliases=("net",), default="default"),
        Flag("sig-proxy", default=True, help="Pass signals on"),
        Flag("secret", hidden=True),
    ),
    interspersed=False,
)
RM = Command("rm", "[OPTIONS] CONTAINER [CONTAINER...]", "Remove", flags=(Flag("force", "f"),), aliases=("remove",))
TAG = Command("tag", "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", "Tag")
PS = Command("ps", "[OPTIONS]", "List", flags=(Flag("all", "a"),))
DOCKER = Program(
    "masu",
    "[OPTIONS] COMMAND",
    "Containers",
    version="1.2",
    flags=(Flag("debug", "D", help="Debug"), Flag("root", value="DIR", default="/var/lib/masu", help="State")),
    entries=(
        Entry(RUN, group="Common Commands"),
        Entry(RM),
        Entry(TAG),
        Entry(PS),
        Entry(Command("x", "", ""), hidden=True),
    ),
)
CREATE = Command(
    "create",
    "[OPTIONS] <container-id>",
    "create a container",
    flags=(
        Flag("bundle", "b", value="DIR", default="."),
        Flag("no-pivot"),
        Flag("preserve-fds", value="N", convert=natural),
    ),
)
EXEC = Command("exec", "<container-id> <command> [ARG...]", "exec", flags=(Flag("tty", "t"),), interspersed=False)
KILL = Command("kill", "<container-id> [signal]", "kill", arity=(1, 2))
RUNC = Program(
    "masu-oci",
    "[global options] command [command options] [arguments...]",
    "runtime",
    version="1.2",
    dialect="runc",
    flags=(Flag("log", value="FILE"), Flag("log-format", value="FORMAT", choices=("text", "json"), default="text")),
    entries=(Entry(CREATE), Entry(EXEC), Entry(KILL)),
)


def docker(line: str) -> Call:
    return DOCKER.parse(line.split())


def test_short_flags_bundle_and_take_values_in_every_spelling() -> None:
    call = docker("run -it -eA=1 -e B=2 -e=C=3 --env D=4 --env=E=5 -de F=6 redis -d --foo")
    options = call.options
    assert options.on("interactive")
    assert options.on("tty")
    assert options.on("detach")
    assert options.all("env") == ["A=1", "B=2", "C=3", "D=4", "E=5", "F=6"]
    assert call.args == ("redis", "-d", "--foo")
    assert not options.given("pull")
    assert options.text("pull") == "missing"
    assert options.maybe("hostname") is None
    assert options.number("cpu-shares") == 0


def test_booleans_may_be_given_a_value() -> None:
    options = docker("run --sig-proxy=false -t=true --tty=0 a").options
    assert not options.on("sig-proxy")
    assert options.given("sig-proxy")
    assert not options.on("tty")
    assert docker("run a").options.on("sig-proxy")


def test_flags_after_arguments_unless_the_verb_stops() -> None:
    assert docker("rm a -f b").args == ("a", "b")
    assert docker("rm a -- -f").args == ("a", "-f")
    assert not docker("rm a -- -f").options.on("force")
    assert docker("run -- -x").args == ("-x",)
    assert docker("run a -- b").args == ("a", "--", "b")


def test_global_flags_stand_before_the_verb_and_aliases_work() -> None:
    call = docker("-D --root=/x remove a")
    assert call.globals.on("debug")
    assert call.globals.text("root") == "/x"
    assert call.command is RM
    assert docker("run --net host a").options.text("network") == "host"


@pytest.mark.parametrize(
    ("line", "status", "text"),
    [
        ("ps --foo", 125, "unknown flag: --foo"),
        ("rm --forse a", 125, 'unknown flag: --forse (did you mean "--force"?)'),
        ("run -itx a", 125, "unknown shorthand flag: 'x' in -itx"),
        ("run -pull a", 125, "unknown shorthand flag: 'p' in -pull (did you mean \"--pull\"?)"),
        ("run --hostname", 125, "flag needs an argument: --hostname"),
        ("run -e", 125, "flag needs an argument: 'e' in -e"),
        ("run -c x a", 125, 'invalid argument "x" for "-c, --cpu-shares" flag: not an integer'),
        ("run --pull=alway a", 125, 'must be one of always, missing, never (did you mean "always"?)'),
        ("run --tty=maybe a", 125, 'invalid argument "maybe" for "-t, --tty" flag: must be true or false'),
        ("rm", 1, "'masu rm' requires at least 1 argument"),
        ("tag a", 1, "'masu tag' requires 2 arguments"),
        ("ps a", 1, "'masu ps' accepts no arguments"),
        ("rmm", 1, 'unknown command: masu rmm (did you mean "rm"?)'),
        ("--rot=1 ps", 125, 'unknown flag: --rot (did you mean "--root"?)'),
        ("ps ---x", 125, "bad flag syntax: ---x"),
    ],
)
def test_errors_say_what_and_end_as_dockers_do(line: str, status: int, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        docker(line)
    assert text in str(caught.value)
    assert caught.value.status == status
    assert caught.value.kind == "invalid_argument"
    assert caught.value.usage


def test_control_characters_do_not_reach_the_terminal() -> None:
    with pytest.raises(UsageError) as caught:
        DOCKER.parse(["run", "--pull=\x1b[2J", "a"])
    assert "\x1b" not in str(caught.value)


def test_runc_dialect_takes_one_dash_or_two() -> None:
    for line in ("create -bundle /b x", "create --bundle=/b x", "create -b /b x", "create x --b /b", "create -b=/b x"):
        call = RUNC.parse(line.split())
        assert call.options.text("bundle") == "/b", line
        assert call.args == ("x",)
    call = RUNC.parse(["-log=/l", "--log-format", "json", "exec", "-t", "c", "sh", "-c", "ls"])
    assert call.globals.text("log") == "/l"
    assert call.args == ("c", "sh", "-c", "ls")


def test_runc_dialect_takes_global_flags_behind_the_verb() -> None:
    """As runc since 1.4; but not behind the arguments of a verb that has a command of its own there."""
    call = RUNC.parse(["--log", "/first", "create", "-b", "/b", "--log=/l", "x", "-log-format", "json"])
    assert (call.globals.text("log"), call.globals.text("log-format")) == ("/l", "json")
    assert (call.options.text("bundle"), call.args) == ("/b", ("x",))
    call = RUNC.parse(["exec", "--log", "/l", "c", "sh", "--log", "x"])
    assert (call.globals.text("log"), call.args) == ("/l", ("c", "sh", "--log", "x"))
    with pytest.raises(UsageError, match="unknown flag: --root"):
        docker("ps --root /x")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("create -foo a", "flag provided but not defined: -foo"),
        ("create", 'masu-oci: "create" requires exactly 1 argument(s)'),
        ("create a b", 'masu-oci: "create" requires exactly 1 argument(s)'),
        ("kill", 'masu-oci: "kill" requires a minimum of 1 argument(s)'),
        ("kill a TERM b", 'masu-oci: "kill" requires a maximum of 2 argument(s)'),
        ("exec a", 'masu-oci: "exec" requires a minimum of 2 argument(s)'),
        ("frob", "No help topic for 'frob'"),
        ("--log-format=xml create a", "must be one of text, json"),
        ("create --preserve-fds=-1 a", "must not be negative"),
    ],
)
def test_runc_dialect_speaks_runcs_words(line: str, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        RUNC.parse(line.split())
    assert text in str(caught.value)
    assert caught.value.status == (3 if line == "frob" else 1)


@pytest.mark.parametrize("line", ["", "--help", "-h", "help"])
def test_program_help(line: str) -> None:
    with pytest.raises(Help) as caught:
        docker(line)
    text = caught.value.text
    assert text.startswith("Usage:  masu [OPTIONS] COMMAND\n\nContainers\n")
    assert "Common Commands:\n  run  Create and run" in text
    assert '--root DIR   State (default "/var/lib/masu")' in text
    assert "\n  x " not in text


@pytest.mark.parametrize("line", ["run --help", "help run", "--help run", "run --tty --help"])
def test_verb_help_looks_like_dockers(line: str) -> None:
    with pytest.raises(Help) as caught:
        docker(line)
    lines = caught.value.text.splitlines()
    assert lines[0] == "Usage:  masu run [OPTIONS] IMAGE [COMMAND] [ARG...]"
    assert "  -e, --env list          Set environment variables" in lines
    assert '      --pull string       When to pull (default "missing")' in lines
    assert "      --sig-proxy         Pass signals on (default true)" in lines
    assert not any("secret" in line for line in lines)


@pytest.mark.parametrize("line", ["--help", "-h", "help", "h", ""])
def test_help_in_runcs_dialect_looks_like_runcs(line: str) -> None:
    with pytest.raises(Help) as caught:
        RUNC.parse(line.split())
    lines = caught.value.text.splitlines()
    assert lines[:5] == [
        "NAME:", "   masu-oci - runtime", "", "USAGE:",
        "   masu-oci [global options] command [command options] [arguments...]",
    ]  # fmt: skip
    assert lines[lines.index("COMMANDS:") + 1].startswith("   create  ")


def test_help_of_a_verb_in_runcs_dialect() -> None:
    with pytest.raises(Help) as caught:
        RUNC.parse(["create", "--help"])
    assert caught.value.text.startswith("NAME:\n   masu-oci create - ")
    assert "\n\nOPTIONS:\n   --bundle DIR, -b DIR  (default \".\")\n   --no-pivot\n" in caught.value.text


def test_version() -> None:
    for line in ("--version", "-v"):
        with pytest.raises(Help) as caught:
            docker(line)
        assert caught.value.text == "masu version 1.2\n"


def test_an_entry_imports_its_module_only_when_typed() -> None:
    program = Program("p", "COMMAND", "", entries=(Entry("gone", "summary", "masu.cli.no_such_module"),))
    with pytest.raises(Help):
        program.parse(["--help"])
    with pytest.raises(ModuleNotFoundError):
        program.parse(["gone"])


@pytest.mark.parametrize(
    ("usage", "arity"),
    [
        ("", (0, 0)),
        ("[OPTIONS]", (0, 0)),
        ("[OPTIONS] CONTAINER [CONTAINER...]", (1, None)),
        ("[OPTIONS] IMAGE [COMMAND] [ARG...]", (1, None)),
        ("SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", (2, 2)),
        ("[OPTIONS] file|URL|- [REPOSITORY[:TAG]]", (1, 2)),
        ("<container-id> [signal]", (1, 2)),
        ("CONTAINER [ps OPTIONS]", (1, 3)),
    ],
)
def test_arity_is_read_off_the_usage(usage: str, arity: tuple[int, int | None]) -> None:
    assert arity_of(usage) == arity


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_integers_round_trip(value: int) -> None:
    assert integer(str(value)) == value


@given(st.text(max_size=8))
def test_integer_never_fails_otherwise(text: str) -> None:
    try:
        integer(text)
    except ValueError:
        return


@given(st.lists(st.text(max_size=6), max_size=6))
def test_any_line_gives_a_call_help_or_a_usage_error(words: list[str]) -> None:
    for program in (DOCKER, RUNC):
        for prefix in ([], ["run"], ["create"]):
            try:
                program.parse([*prefix, *words])
            except (UsageError, Help):
                continue
