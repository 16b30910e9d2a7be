"""Command lines as data: programs, verbs, flags, positional arguments, help in Docker's look or in runc's.

Used by `masu` and by `masu-oci`. Own code since click costs 85 ms and argparse 18 ms above a bare interpreter,
and neither knows both dialects that users of containers type: pflag's (`-it`, `-vSRC:DST`, `--x=v`) and the older
urfave/cli's (`-bundle DIR` with one dash).

    RUN = Command(
        "run", "[OPTIONS] IMAGE [COMMAND] [ARG...]", "Create and run a new container from an image",
        flags=(
            Flag("detach", "d", help="Run in the background"),
            Flag("env", "e", value="list", repeated=True, help="Set environment variables"),
            Flag("memory", "m", value="bytes", convert=units.size, help="Memory limit"),
            Flag("pull", value="string", default="missing", choices=("always", "missing", "never"), help="…"),
        ),
        interspersed=False,     # stop at the first positional argument: the rest belongs to the container
        run=run,                # Callable[[Call], int]: the exit status
    )
    PROGRAM = Program(
        "masu", "[OPTIONS] COMMAND", "Containers, …", version="0.1.0", flags=(Flag("debug", "D", help="…"),),
        entries=(Entry(RUN), Entry("ps", "List containers", "masu.cli.engine.ps")),
    )

    call = PROGRAM.parse(["run", "-d", "-e", "A=1", "redis"])      # raises Help or UsageError
    call.options.on("detach")      -> True          call.options.all("env")     -> ["A=1"]
    call.options.text("pull")      -> "missing"     call.options.maybe("name")  -> str | None
    call.options.number("memory")  -> int           call.options.given("pull")  -> was it typed?
    call.globals.on("debug")       call.args        -> ("redis",)
    status = call.command.run(call)

How many positional arguments a verb takes is read off its usage text: words in brackets are optional, `...` repeats
(`CONTAINER [CONTAINER...]` is one or more); `arity=(least, most | None)` overrides. An `Entry` that names a module is
imported only when its verb is typed; the module holds `COMMAND`.

`Program(dialect="runc")`: long flags with one dash or two, no bundling of short ones, runc's wording and exit status 1
(its callers and suites match on them). `dialect="docker"`: pflag's rules, Docker's wording, exit status 125 for a bad
flag and 1 for a bad number of arguments.
"""

from __future__ import annotations

from masu.errors import InvalidArgument, MasuError, closest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

TRUE = ("1", "t", "T", "true", "TRUE", "True")
FALSE = ("0", "f", "F", "false", "FALSE", "False")


class UsageError(InvalidArgument):
    """A command line that cannot be understood; `status` is the exit status to end with, `usage` what to show below."""

    def __init__(self, text: str, *, hint: str = "", usage: str = "", status: int = 1, where: str = "") -> None:
        super().__init__(text, hint=hint, where=where)
        self.text = text
        self.usage = usage
        self.status = status

    def message(self) -> str:
        return self.text


class Help(Exception):
    """Not an error: the user asked for help or the version; `text` goes to standard output, exit status 0."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Flag:
    """One option. With `value` empty it is a boolean, else `value` is the word for its argument in the help.

    `convert` turns the typed text into the value kept; it raises ValueError or a MasuError, whose text follows Docker's
    `invalid argument "x" for "-m, --memory" flag: …`. `repeated` collects a list. `optional` is the value taken by a
    bare `--flag` of a flag that may have one (only with `--flag=value` then), as pflag's NoOptDefVal.
    """

    __slots__ = (
        "aliases",
        "choices",
        "convert",
        "default",
        "help",
        "hidden",
        "name",
        "optional",
        "repeated",
        "short",
        "value",
    )

    def __init__(
        self,
        name: str,
        short: str = "",
        *,
        value: str = "",
        help: str = "",
        default: object = None,
        repeated: bool = False,
        choices: tuple[str, ...] = (),
        convert: Callable[[str], object] | None = None,
        hidden: bool = False,
        aliases: tuple[str, ...] = (),
        optional: str | None = None,
    ) -> None:
        self.name = name
        self.short = short
        self.value = value
        self.help = help
        self.default = default
        self.repeated = repeated
        self.choices = choices
        self.convert = convert
        self.hidden = hidden
        self.aliases = aliases
        self.optional = optional

    def shown(self) -> str:
        """`-m, --memory`, as messages name it."""
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"


class Values:
    """What the flags of one level (global or verb) came to. Undeclared names raise KeyError: a bug of ours."""

    __slots__ = ("_flags", "_given")

    def __init__(self, flags: Sequence[Flag]) -> None:
        self._flags = {flag.name: flag for flag in flags}
        self._given: dict[str, object] = {}

    def given(self, name: str) -> bool:
        """Whether the flag was typed."""
        self._flags[name]
        return name in self._given

    def value(self, name: str) -> object:
        """The converted value, the default when it was not typed."""
        if name in self._given:
            return self._given[name]
        flag = self._flags[name]
        if flag.default is None and flag.repeated:
            return []
        return flag.default

    def on(self, name: str) -> bool:
        return bool(self.value(name))

    def maybe(self, name: str) -> str | None:
        value = self.value(name)
        return None if value is None else str(value)

    def text(self, name: str) -> str:
        return self.maybe(name) or ""

    def number(self, name: str) -> int:
        """The value of a flag with an integer converter; 0 when it was not typed and has no default."""
        value = self.value(name)
        return value if isinstance(value, int) else 0

    def all(self, name: str) -> list[str]:
        """The values of a repeated flag in the order typed, as text."""
        value = self.value(name)
        return [str(item) for item in value] if isinstance(value, list) else []

    def items(self, name: str) -> list[object]:
        """The values of a repeated flag, converted."""
        value = self.value(name)
        return list(value) if isinstance(value, list) else []

    def keep(self, flag: Flag, value: object) -> None:
        if flag.repeated:
            held = self._given.setdefault(flag.name, [])
            assert isinstance(held, list)
            held.append(value)
        else:
            self._given[flag.name] = value


class Call:
    """A parsed command line. What runs it decides by these alone (and by the environment and cwd it is told)."""

    __slots__ = ("args", "command", "globals", "options", "program")

    def __init__(
        self, program: Program, command: Command, globals: Values, options: Values, args: tuple[str, ...]
    ) -> None:
        self.program = program
        self.command = command
        self.globals = globals
        self.options = options
        self.args = args


class Command:
    """One verb. `usage` is what follows the verb in the usage line, `[OPTIONS]` included where there are flags."""

    __slots__ = ("aliases", "arity", "description", "flags", "interspersed", "name", "run", "summary", "usage")

    def __init__(
        self,
        name: str,
        usage: str,
        summary: str,
        *,
        flags: tuple[Flag, ...] = (),
        arity: tuple[int, int | None] | None = None,
        interspersed: bool = True,
        aliases: tuple[str, ...] = (),
        description: str = "",
        run: Callable[[Call], int] | None = None,
    ) -> None:
        self.name = name
        self.usage = usage
        self.summary = summary
        self.flags = flags
        self.arity = arity if arity is not None else arity_of(usage)
        self.interspersed = interspersed
        self.aliases = aliases
        self.description = description
        self.run = run


class Entry:
    """A line of the program's list of verbs: a `Command`, or a name, a summary and the module to import for it."""

    __slots__ = ("_command", "_module", "aliases", "group", "hidden", "name", "summary")

    def __init__(
        self,
        command: Command | str,
        summary: str = "",
        module: str = "",
        *,
        group: str = "",
        aliases: tuple[str, ...] = (),
        hidden: bool = False,
    ) -> None:
        self._command = None if isinstance(command, str) else command
        self._module = module
        self.name = command if isinstance(command, str) else command.name
        self.summary = summary or ("" if isinstance(command, str) else command.summary)
        self.group = group
        self.aliases = aliases or (() if isinstance(command, str) else command.aliases)
        self.hidden = hidden

    def load(self) -> Command:
        if self._command is None:
            command = __import__(self._module, None, None, ["COMMAND"]).COMMAND
            assert isinstance(command, Command)
            self._command = command
        return self._command


class Program:
    """The program's name, its global flags and its verbs; see the top of this file."""

    __slots__ = ("description", "dialect", "entries", "flags", "footer", "name", "summary", "usage", "version")

    def __init__(
        self,
        name: str,
        usage: str,
        summary: str,
        *,
        entries: tuple[Entry, ...],
        flags: tuple[Flag, ...] = (),
        version: str = "",
        dialect: str = "docker",
        description: str = "",
        footer: str = "",
    ) -> None:
        assert dialect in ("docker", "runc")
        self.name = name
        self.usage = usage
        self.summary = summary
        self.entries = entries
        self.flags = flags
        self.version = version
        self.dialect = dialect
        self.description = description
        self.footer = footer

    def find(self, verb: str) -> Entry | None:
        for entry in self.entries:
            if entry.name == verb or verb in entry.aliases:
                return entry
        return None

    def parse(self, argv: Sequence[str]) -> Call:
        """The meaning of `argv` (without the program's name). Raises Help, UsageError."""
        parser = _Parser(self, None)
        words = parser.take(argv, self.flags, interspersed=False)
        if parser.help:
            raise Help(self.help_of(words[0]) if words and self.find(words[0]) else _help().program_help(self))
        if not words:
            raise Help(_help().program_help(self))
        verb, rest = words[0], words[1:]
        if verb in ("help", "h") and self.find(verb) is None:
            raise Help(self.help_of(rest[0]) if rest else _help().program_help(self))
        entry = self.find(verb)
        if entry is None:
            raise self._unknown_verb(verb)
        command = entry.load()
        # In runc the program's own flags may also stand behind the verb, since 1.4.
        inner = _Parser(self, command, parser if self.dialect == "runc" else None)
        args = inner.take(rest, command.flags, interspersed=command.interspersed)
        if inner.help:
            raise Help(_help().command_help(self, command))
        least, most = command.arity
        if len(args) < least or (most is not None and len(args) > most):
            raise self._wrong_count(command, len(args))
        return Call(self, command, parser.values, inner.values, tuple(args))

    def help_of(self, verb: str) -> str:
        """What `program help VERB` prints. Raises UsageError for an unknown verb."""
        entry = self.find(verb)
        if entry is None:
            raise self._unknown_verb(verb)
        return str(_help().command_help(self, entry.load()))

    def _unknown_verb(self, verb: str) -> UsageError:
        names = [name for entry in self.entries if not entry.hidden for name in (entry.name, *entry.aliases)]
        hint = closest(verb, names)
        shown = verb if verb.isprintable() else repr(verb)
        runc = self.dialect == "runc"
        text = f"No help topic for '{shown}'" if runc else f"unknown command: {self.name} {shown}"
        usage = f"Run '{self.name} --help' for more information"
        return UsageError(text, hint=hint, usage=usage, status=3 if runc else 1)

    def _wrong_count(self, command: Command, given: int) -> UsageError:
        least, most = command.arity
        if self.dialect == "runc":
            # runc's check_args; callers match on it
            if least == most:
                how = f"exactly {least}"
            else:
                how = f"a minimum of {least}" if most is None or given < least else f"a maximum of {most}"
            return UsageError(
                f'{self.name}: "{command.name}" requires {how} argument(s)', usage=usage_of(self, command)
            )
        noun = "argument" if (least if most is None or least == most else most) == 1 else "arguments"
        if most == 0:
            how = "accepts no arguments"
        elif least == most:
            how = f"requires {least} {noun}"
        elif most is None:
            how = f"requires at least {least} {noun}"
        else:
            how = f"requires at least {least} and at most {most} {noun}" if least else f"accepts at most {most} {noun}"
        return UsageError(f"'{self.name} {command.name}' {how}", usage=usage_of(self, command))


class _Parser:
    """Reads one level of flags; `values` and `help` are what it found. Flags that only `outer` knows are kept there."""

    def __init__(self, program: Program, command: Command | None, outer: _Parser | None = None) -> None:
        self.program = program
        self.command = command
        self.outer = outer
        self.values = Values(program.flags if command is None else command.flags)
        self.help = False
        self.long: dict[str, Flag] = {}
        self.short: dict[str, Flag] = {}

    def take(self, argv: Sequence[str], flags: Sequence[Flag], *, interspersed: bool) -> list[str]:
        for flag in flags:
            self.long[flag.name] = flag
            for alias in flag.aliases:
                self.long[alias] = flag
            if flag.short:
                self.short[flag.short] = flag
        args: list[str] = []
        words = list(argv)
        at = 0
        while at < len(words):
            word = words[at]
            at += 1
            if word == "--":
                args.extend(words[at:])
                break
            if len(word) < 2 or word[0] != "-":
                args.append(word)
                if not interspersed:
                    args.extend(words[at:])
                    break
                continue
            if word.startswith("--") or self.program.dialect == "runc":
                at = self._long(word, words, at)
            else:
                at = self._bundle(word, words, at)
            if self.help:
                args.extend(words[at:])
                break
        return args

    def _long(self, word: str, words: list[str], at: int) -> int:
        body = word[2:] if word.startswith("--") else word[1:]
        name, equals, typed = body.partition("=")
        flag = self.long.get(name)
        if flag is None and self.program.dialect == "runc":
            flag = self.short.get(name)
        if flag is None and self.outer is not None and name in self.outer.long:
            return self.outer._long(word, words, at)
        if flag is None:
            if name == "help" or (name == "h" and self.program.dialect == "runc"):
                self.help = True
                return at
            if self.command is None and self.program.version and self._is_version(name):
                raise Help(f"{self.program.name} version {self.program.version}\n")
            raise self._unknown(name, word)
        if equals:
            self._keep(flag, typed)
        elif not flag.value:
            self.values.keep(flag, True)
        elif flag.optional is not None:
            self._keep(flag, flag.optional)
        elif at < len(words):
            self._keep(flag, words[at])
            at += 1
        else:
            raise self._error(f"flag needs an argument: {word.partition('=')[0]}")
        return at

    def _bundle(self, word: str, words: list[str], at: int) -> int:
        # -it, -vSRC:DST, -v=SRC:DST, -m 1g: pflag's shorthands
        rest = word[1:]
        while rest:
            letter, rest = rest[0], rest[1:]
            flag = self.short.get(letter)
            if flag is None:
                if letter == "h" and "h" not in self.short:
                    self.help = True
                    return at
                if self.command is None and letter == "v" and self.program.version:
                    raise Help(f"{self.program.name} version {self.program.version}\n")
                near = closest(word[1:], list(self.long)) if len(word) > 3 else ""
                long = word[1:].partition("=")[0]
                if len(long) > 1 and long in self.long:
                    near = f'did you mean "--{long}"?'
                raise self._error(f"unknown shorthand flag: '{letter}' in {word}", hint=near)
            if not flag.value:
                if rest.startswith("="):
                    self._keep(flag, rest[1:])
                    return at
                self.values.keep(flag, True)
            elif rest:
                self._keep(flag, rest[1:] if rest[0] == "=" else rest)
                return at
            elif at < len(words):
                self._keep(flag, words[at])
                return at + 1
            else:
                raise self._error(f"flag needs an argument: '{letter}' in {word}")
        return at

    def _is_version(self, name: str) -> bool:
        return name == "version" or (name == "v" and self.program.dialect == "runc")

    def _keep(self, flag: Flag, typed: str) -> None:
        value: object = typed
        try:
            if not flag.value:
                if typed not in TRUE and typed not in FALSE:
                    raise ValueError("must be true or false")
                value = typed in TRUE
            elif flag.choices and typed not in flag.choices:
                near = closest(typed, flag.choices)
                raise ValueError(f"must be one of {', '.join(flag.choices)}" + (f" ({near})" if near else ""))
            elif flag.convert is not None:
                value = flag.convert(typed)
        except ValueError as error:
            raise self._bad_value(flag, typed, str(error)) from error
        except MasuError as error:
            raise self._bad_value(flag, typed, str(error)) from error
        self.values.keep(flag, value)

    def _bad_value(self, flag: Flag, typed: str, why: str) -> UsageError:
        shown = '"' + typed + '"' if typed.isprintable() else ascii(typed)
        if self.program.dialect == "runc":
            return self._error(f"invalid value {shown} for flag -{flag.name}: {why}")
        return self._error(f'invalid argument {shown} for "{flag.shown()}" flag: {why}')

    def _unknown(self, name: str, word: str) -> UsageError:
        near = closest(name, [n for n, flag in self.long.items() if not flag.hidden])
        if near:
            near = near.replace('"', '"--', 1)
        shown = name if name.isprintable() else repr(name)
        if self.program.dialect == "runc":
            return self._error(f"flag provided but not defined: -{shown}", hint=near)
        if not name or name[0] == "-":
            return self._error(f"bad flag syntax: {word}")
        return self._error(f"unknown flag: --{shown}", hint=near)

    def _error(self, text: str, hint: str = "") -> UsageError:
        status = 1 if self.program.dialect == "runc" else 125
        return UsageError(text, hint=hint, usage=usage_of(self.program, self.command), status=status)


def integer(text: str) -> int:
    """Converter: a decimal or 0x… integer, sign allowed, within 64 bits; raises ValueError."""
    body = text[1:] if text[:1] in ("-", "+") else text
    if body[:2] in ("0x", "0X") and body[2:].isalnum() and body.isascii():
        value = int(text, 16)
    elif body.isdigit() and body.isascii():
        value = int(text, 10)
    else:
        raise ValueError("not an integer")
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError("value out of range")
    return value


def natural(text: str) -> int:
    """Converter: an integer that is not negative; raises ValueError."""
    value = integer(text)
    if value < 0:
        raise ValueError("must not be negative")
    return value


def arity_of(usage: str) -> tuple[int, int | None]:
    """(least, most) positional arguments by a usage text; most None is any number."""
    least, most, unbounded, depth = 0, 0, False, 0
    for word in usage.split():
        optional = depth > 0 or word.startswith("[")
        depth += word.count("[") - word.count("]")
        if word in ("[OPTIONS]", "[options]", "|"):
            continue
        unbounded |= "..." in word
        most += 1
        least += not optional
    return least, None if unbounded else most


def _help() -> ModuleType:
    from masu.cli import help  # read by people, so it may take a millisecond more

    return help


def usage_of(program: Program, command: Command | None) -> str:
    """The two lines below an error: the usage line and where to read more."""
    if command is None:
        return f"Usage:  {program.name} {program.usage}\n\nRun '{program.name} --help' for more information"
    return (
        f"Usage:  {program.name} {command.name} {command.usage}".rstrip()
        + f"\n\nRun '{program.name} {command.name} --help' for more information"
    )
