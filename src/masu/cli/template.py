"""The part of Go's text/template that `--format` is used with, and Docker's functions for it.

    parse('{{.Names}}: {{join .Ports ", "}}').render({"Names": "web", "Ports": ["80/tcp"]})

Data are plain JSON values. Actions: fields and chains (`.A.B`, `$x.B`, `(…).C`), literals, variables (`$x := …`,
`$x = …`), pipelines, `if/else if/else`, `range/else` (lists, maps, integers; `$i, $v :=`; `break`, `continue`),
`with/else`, comments, trim markers. Functions: Go's (and or not eq ne lt le gt ge index slice len print printf println
html urlquery) and Docker's (json join split lower upper title pad truncate). A field that an object does not have is an
error with a hint, a key that a free map (labels) does not have prints `<no value>`, as Go does for structs and maps:
here an object whose keys are all capitalised counts as a struct.

Errors are InvalidArgument with line and column: `--format: format template "{{.Nmae}}": invalid: line 1, column 3: …`.
Bounded in input, output, nesting and steps: the template is the user's own, but a front door may take it from a peer.
"""

from __future__ import annotations

from masu.cli.template_functions import FUNCTIONS, kind, show, truth
from masu.cli.template_words import Fault, Token, lex
from masu.errors import InvalidArgument, closest

_MAX_SOURCE = 64 * 1024
_MAX_OUTPUT = 16 * 1024 * 1024
_MAX_DEPTH = 100
_MAX_STEPS = 1_000_000


class Template:
    """A parsed template; `render` may be called any number of times."""

    __slots__ = ("_nodes", "_source", "_where")

    def __init__(self, source: str, nodes: list[_Node], where: str) -> None:
        self._source = source
        self._nodes = nodes
        self._where = where

    def render(self, data: object) -> str:
        """The text for `data`. Raises InvalidArgument where the template does not fit the data."""
        run = _Run(data)
        try:
            run.block(self._nodes, data, 0)
        except Fault as fault:
            raise _invalid(self._source, fault, self._where) from fault
        return "".join(run.out)


def parse(source: str, *, where: str = "") -> Template:
    """Parse; raises InvalidArgument with the line and column of the first mistake."""
    try:
        if len(source) > _MAX_SOURCE:
            raise Fault(0, f"template longer than {_MAX_SOURCE} characters")
        parser = _Parser(lex(source))
        nodes = parser.block(("eof",), 0)
    except Fault as fault:
        raise _invalid(source, fault, where) from fault
    return Template(source, nodes, where)


def _invalid(source: str, fault: Fault, where: str) -> InvalidArgument:
    line = source.count("\n", 0, fault.at) + 1
    column = fault.at - (source.rfind("\n", 0, fault.at) + 1) + 1
    shown = source if len(source) <= 200 else source[:200] + "…"
    detail = f"line {line}, column {column}: {fault.text}"
    return InvalidArgument("format template", shown, where=where, detail=detail, hint=fault.hint)


# --- the tree ---


class _Node:
    """kind: text, print, if, with, range, break, continue; which of the other slots are used follows from it."""

    __slots__ = ("at", "body", "kind", "names", "orelse", "pipe", "text")

    def __init__(self, kind: str, at: int, *, text: str = "", pipe: _Pipe | None = None) -> None:
        self.kind = kind
        self.at = at
        self.text = text
        self.pipe = pipe
        self.body: list[_Node] = []
        self.orelse: list[_Node] = []
        self.names: list[str] = []


class _Pipe:
    """Commands joined by `|`; `declares` the variables that get the value, `assigns` when they exist already."""

    __slots__ = ("assigns", "at", "commands", "declares")

    def __init__(self, at: int) -> None:
        self.at = at
        self.declares: list[str] = []
        self.assigns = False
        self.commands: list[list[_Operand]] = []


class _Operand:
    """base: dot, variable, literal, function, pipe; then the fields that follow it."""

    __slots__ = ("at", "base", "fields", "pipe", "text", "value")

    def __init__(self, base: str, at: int, *, text: str = "", value: object = None, pipe: _Pipe | None = None) -> None:
        self.base = base
        self.at = at
        self.text = text
        self.value = value
        self.pipe = pipe
        self.fields: list[tuple[str, int]] = []


_KEYWORDS = ("if", "else", "end", "range", "with", "break", "continue", "define", "template", "block")


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.loops = 0
        self.variables: list[str] = ["$"]

    def peek(self) -> Token:
        return self.tokens[self.at]

    def next(self) -> Token:
        token = self.tokens[self.at]
        self.at += 1
        return token

    def want(self, kind: str, context: str) -> Token:
        token = self.next()
        if token.kind != kind:
            raise Fault(token.at, f'unexpected "{token.text or "end of template"}" in {context}')
        return token

    def block(self, ends: tuple[str, ...], depth: int) -> list[_Node]:
        """Nodes up to one of the closing keywords, which is left for the caller as the current token."""
        if depth > _MAX_DEPTH:
            raise Fault(self.peek().at, f"nested deeper than {_MAX_DEPTH}")
        nodes: list[_Node] = []
        while True:
            token = self.next()
            if token.kind == "text":
                nodes.append(_Node("text", token.at, text=token.text))
                continue
            if token.kind == "eof":
                if "eof" in ends:
                    return nodes
                raise Fault(token.at, "unexpected end of template, want {{end}}")
            word = self.peek()
            keyword = word.text if word.kind == "name" and word.text in _KEYWORDS else ""
            if keyword in ("end", "else"):
                if keyword not in ends:
                    raise Fault(word.at, f"unexpected {{{{{keyword}}}}}")
                return nodes
            if keyword:
                self.next()
                nodes.append(self.control(keyword, word, depth))
            else:
                pipe = self.pipeline("close", depth, "action")
                nodes.append(_Node("print", token.at, pipe=pipe))

    def control(self, keyword: str, word: Token, depth: int) -> _Node:
        if keyword in ("break", "continue"):
            if not self.loops:
                raise Fault(word.at, f"{{{{{keyword}}}}} outside {{{{range}}}}")
            self.want("close", keyword)
            return _Node(keyword, word.at)
        if keyword not in ("if", "with", "range"):
            raise Fault(word.at, f"{keyword} is not supported")
        scope = len(self.variables)
        node = _Node(keyword, word.at)
        node.pipe = self.pipeline("close", depth, keyword, loop=keyword == "range")
        if keyword == "range":
            node.names, node.pipe.declares = node.pipe.declares, []
        self.loops += keyword == "range"
        node.body = self.block(("else", "end"), depth + 1)
        self.loops -= keyword == "range"
        if self.next().text == "else":
            follow = self.peek()
            if follow.kind == "name" and follow.text in ("if", "with") and keyword in ("if", "with"):
                self.next()
                node.orelse = [self.control(follow.text, follow, depth + 1)]
                del self.variables[scope:]
                return node
            self.want("close", "else")
            node.orelse = self.block(("end",), depth + 1)
            self.next()
        self.want("close", "end")
        del self.variables[scope:]
        return node

    def pipeline(self, end: str, depth: int, context: str, loop: bool = False) -> _Pipe:
        if depth > _MAX_DEPTH:
            raise Fault(self.peek().at, f"nested deeper than {_MAX_DEPTH}")
        pipe = _Pipe(self.peek().at)
        declared = self.declarations(loop)
        if declared is not None:
            pipe.declares, pipe.assigns = declared
        while True:
            pipe.commands.append(self.command(end, depth, context))
            token = self.next()
            if token.kind == end:
                break
        if declared is not None and not pipe.assigns:
            self.variables.extend(pipe.declares)
        return pipe

    def declarations(self, loop: bool) -> tuple[list[str], bool] | None:
        start = self.at
        names: list[str] = []
        while self.peek().kind == "variable":
            names.append(self.next().text)
            token = self.next()
            if token.kind in (":=", "="):
                if token.kind == "=":
                    for name in names:
                        self.known(name, token.at)
                return names, token.kind == "="
            if token.kind != "," or not loop or len(names) > 1:
                break
        self.at = start
        return None

    def known(self, name: str, at: int) -> None:
        if name not in self.variables:
            raise Fault(at, f'undefined variable "{name}"')

    def command(self, end: str, depth: int, context: str) -> list[_Operand]:
        operands: list[_Operand] = []
        while self.peek().kind not in (end, "|"):
            operands.append(self.operand(depth, context))
        if not operands:
            raise Fault(self.peek().at, f"missing value for {context}")
        if len(operands) > 1 and operands[0].base == "literal":
            raise Fault(operands[1].at, f'unexpected operand after "{operands[0].text}"')
        return operands

    def operand(self, depth: int, context: str) -> _Operand:
        token = self.next()
        if token.kind == "field":
            operand = _Operand("dot", token.at, text=token.text)
            if token.value:
                operand.fields.append((str(token.value), token.at))
        elif token.kind == "variable":
            self.known(token.text, token.at)
            operand = _Operand("variable", token.at, text=token.text)
        elif token.kind in ("string", "number"):
            operand = _Operand("literal", token.at, text=token.text, value=token.value)
        elif token.kind == "(":
            operand = _Operand("pipe", token.at, pipe=self.pipeline(")", depth + 1, "parenthesized pipeline"))
        elif token.kind == "name" and token.text in ("true", "false", "nil"):
            value = None if token.text == "nil" else token.text == "true"
            operand = _Operand("literal", token.at, text=token.text, value=value)
        elif token.kind == "name":
            if token.text not in FUNCTIONS and token.text not in ("and", "or"):
                names = [*FUNCTIONS, "and", "or", *_KEYWORDS[:5]]
                hint = closest(token.text, names) or f"for a field write .{token.text}"
                raise Fault(token.at, f'function "{token.text}" not defined', hint)
            operand = _Operand("function", token.at, text=token.text)
        else:
            shown = "end of template" if token.kind == "eof" else token.text
            raise Fault(token.at, f'unexpected "{shown}" in {context}')
        while self.peek().kind == "field" and not self.peek().spaced and operand.base in ("dot", "variable", "pipe"):
            field = self.next()
            if not field.value or (operand.base == "dot" and not operand.fields):
                raise Fault(field.at, f'unexpected "." after "{operand.text or ")"}"')
            operand.fields.append((str(field.value), field.at))
        return operand


# --- carrying out ---


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


_NOTHING = object()


class _Run:
    def __init__(self, data: object) -> None:
        self.out: list[str] = []
        self.size = 0
        self.steps = 0
        self.scope: list[tuple[str, object]] = [("$", data)]

    def write(self, text: str, at: int) -> None:
        self.size += len(text)
        if self.size > _MAX_OUTPUT:
            raise Fault(at, f"output longer than {_MAX_OUTPUT} characters")
        self.out.append(text)

    def block(self, nodes: list[_Node], dot: object, depth: int) -> None:
        mark = len(self.scope)
        for node in nodes:
            self.steps += 1
            if self.steps > _MAX_STEPS:
                raise Fault(node.at, f"more than {_MAX_STEPS} steps")
            if node.kind == "text":
                self.write(node.text, node.at)
            elif node.kind == "break":
                raise _Break
            elif node.kind == "continue":
                raise _Continue
            elif node.kind == "print":
                assert node.pipe is not None
                value = self.pipe(node.pipe, dot)
                if not node.pipe.declares:
                    self.write(show(value), node.at)
            elif node.kind == "range":
                self.loop(node, dot, depth)
            else:
                assert node.pipe is not None
                inner = len(self.scope)
                value = self.pipe(node.pipe, dot)
                if truth(value):
                    self.block(node.body, value if node.kind == "with" else dot, depth + 1)
                else:
                    self.block(node.orelse, dot, depth + 1)
                del self.scope[inner:]
        del self.scope[mark:]

    def loop(self, node: _Node, dot: object, depth: int) -> None:
        assert node.pipe is not None
        value = self.pipe(node.pipe, dot)
        pairs: list[tuple[object, object]]
        if isinstance(value, dict):
            pairs = [(key, value[key]) for key in sorted(value)]
        elif isinstance(value, (list, tuple)):
            pairs = list(enumerate(value))
        elif isinstance(value, int) and not isinstance(value, bool):
            if value > _MAX_STEPS:
                raise Fault(node.at, f"range over {value} is too long")
            pairs = [(i, i) for i in range(value)]
        elif value is None:
            pairs = []
        else:
            raise Fault(node.at, f"range can't iterate over {show(value)}")
        if not pairs:
            self.block(node.orelse, dot, depth + 1)
            return
        mark = len(self.scope)
        for key, item in pairs:
            if len(node.names) == 1:
                self.scope.append((node.names[0], item))
            elif node.names:
                self.scope += [(node.names[0], key), (node.names[1], item)]
            try:
                self.block(node.body, item, depth + 1)
            except _Break:
                break
            except _Continue:
                continue
            finally:
                del self.scope[mark:]

    def pipe(self, pipe: _Pipe, dot: object) -> object:
        value: object = _NOTHING
        for command in pipe.commands:
            value = self.command(command, dot, value)
        for name in pipe.declares:
            if pipe.assigns:
                for index in range(len(self.scope) - 1, -1, -1):
                    if self.scope[index][0] == name:
                        self.scope[index] = (name, value)
                        break
            else:
                self.scope.append((name, value))
        return value

    def command(self, operands: list[_Operand], dot: object, last: object) -> object:
        first = operands[0]
        if first.base != "function":
            if len(operands) > 1 or last is not _NOTHING:
                raise Fault(first.at, f"can't give argument to non-function {first.text or 'value'}")
            return self.operand(first, dot)
        if first.text in ("and", "or"):
            # the only functions that need not evaluate all their arguments
            value: object = _NOTHING
            for operand in operands[1:]:
                value = self.operand(operand, dot)
                if truth(value) == (first.text == "or"):
                    return value
            value = value if last is _NOTHING else last
            if value is _NOTHING:
                raise Fault(first.at, f"wrong number of args for {first.text}: want at least 1 got 0")
            return value
        arguments = [self.operand(operand, dot) for operand in operands[1:]]
        if last is not _NOTHING:
            arguments.append(last)
        function, least, most = FUNCTIONS[first.text]
        if len(arguments) < least or (most is not None and len(arguments) > most):
            want = str(least) if least == most else f"at least {least}" if most is None else f"{least} to {most}"
            raise Fault(first.at, f"wrong number of args for {first.text}: want {want} got {len(arguments)}")
        try:
            return function(*arguments)
        except Fault:
            raise
        except (ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
            raise Fault(first.at, f"error calling {first.text}: {error}") from error

    def operand(self, operand: _Operand, dot: object) -> object:
        value: object
        if operand.base == "dot":
            value = dot
        elif operand.base == "variable":
            value = next(held for name, held in reversed(self.scope) if name == operand.text)
        elif operand.base == "literal":
            value = operand.value
        elif operand.base == "pipe":
            assert operand.pipe is not None
            mark = len(self.scope)
            value = self.pipe(operand.pipe, dot)
            del self.scope[mark:]
        else:
            value = self.command([operand], dot, _NOTHING)
        for name, at in operand.fields:
            value = _field(value, name, at)
        return value


def _field(value: object, name: str, at: int) -> object:
    if isinstance(value, dict):
        if name in value:
            return value[name]
        keys = [str(key) for key in value]
        if keys and all(key[:1].isupper() for key in keys) and (name[:1].isupper() or closest(name, keys)):
            raise Fault(at, f"can't evaluate field {name}", closest(name, keys) or "fields: " + ", ".join(sorted(keys)))
        return None
    if value is None:
        return None
    raise Fault(at, f"can't evaluate field {name} in {kind(value)} {show(value)[:40]}")
