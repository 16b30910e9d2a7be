"""Listings as Docker prints them: aligned columns, `--format` in its four forms, `--quiet`."""

from __future__ import annotations

from masu.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_LEAST, _PADDING = 10, 3  # Docker's tabwriter.NewWriter(out, 10, 1, 3, ' ', 0)


def align(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as text, columns aligned; the last cell of a row is not padded."""
    widths: list[int] = []
    for row in rows:
        for index, cell in enumerate(row[:-1]):
            if index == len(widths):
                widths.append(_LEAST)
            widths[index] = max(widths[index], len(cell) + _PADDING)
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        lines.append("".join(cells) + (row[-1] if row else "") + "\n")
    return "".join(lines)


class Listing:
    """The columns of one verb's listing.

    `columns` are those of the default table, (field, heading); `extra` are fields that only `--format` shows.
    A row is a mapping from field to text (or to a list or mapping for templates).
    """

    __slots__ = ("columns", "headings")

    def __init__(self, columns: Sequence[tuple[str, str]], extra: Sequence[tuple[str, str]] = ()) -> None:
        self.columns = tuple(columns)
        self.headings = dict((*columns, *extra))

    def render(self, rows: Iterable[Mapping[str, object]], format: str = "") -> str:
        """The whole listing.

        `format`: empty or `table` for the default columns, `table TEMPLATE`, `json`, or a template.

        Raises InvalidArgument for a template that cannot be parsed or names an unknown field.
        """
        if format in ("", "table"):
            names = [name for name, _ in self.columns]
            cells = [[_text(row.get(name, "")) for name in names] for row in rows]
            return align([[heading for _, heading in self.columns], *cells])
        if format == "json":
            return "".join(json_line(row) + "\n" for row in rows)
        # parsing templates is needed by few calls, so it is imported here
        from masu.cli import template

        table = format.startswith(("table ", "table\t"))
        source = format[6:] if table else format
        parsed = template.parse(source.replace("\\t", "\t").replace("\\n", "\n"), where="--format")
        lines = [parsed.render({name: row.get(name, "") for name in self.headings} | dict(row)) for row in rows]
        if not table:
            return "".join(line + "\n" for line in lines)
        try:
            heading = parsed.render(self.headings)
        except InvalidArgument:
            # functions on headings may fail ({{index .Labels "x"}}); Docker leaves such a heading out as well
            heading = ""
        return align([line.split("\t") for line in ([heading, *lines] if heading else lines)])


def _text(value: object) -> str:
    return value if isinstance(value, str) else str(value)


def json_line(row: Mapping[str, object]) -> str:
    """One row as Docker's `--format json` writes it: keys sorted, one line."""
    from masu.spec import jsontext

    return jsontext.dumps({key: row[key] for key in sorted(row)})


def render_each(values: Sequence[object], format: str, dumps: Callable[[object], str]) -> str:
    """What `inspect --format` prints: per value one line by the template, or by `dumps` for `json`."""
    if format == "json":
        return "".join(dumps(value) + "\n" for value in values)
    from masu.cli import template

    parsed = template.parse(format.replace("\\t", "\t").replace("\\n", "\n"), where="--format")
    return "".join(parsed.render(value) + "\n" for value in values)
