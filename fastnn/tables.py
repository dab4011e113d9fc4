"""Tables as text for a terminal and as HTML for a notebook."""

from collections.abc import Sequence
from typing import NamedTuple

Row = Sequence[str]

_ESCAPED = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class Table(NamedTuple):
    """Rows of cells under a header, of which the first ``n_names`` columns are names and the others numbers.

    ``title`` stands above; below a rule, ``total`` is a last row and ``note`` a last line.
    """

    header: Row
    rows: Sequence[Row]
    n_names: int = 1
    title: str = ""
    total: Row = ()
    note: str = ""

    def text(self) -> str:
        """Return the table with its columns aligned."""
        rows = [self.header, *self.rows, *self._totals]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(f"{cell:{'<' if i < self.n_names else '>'}{widths[i]}}" for i, cell in enumerate(row)).rstrip()
            for row in rows
        ]
        rule = "-" * max(map(len, lines))
        body = lines[1 : len(self.rows) + 1]
        last = [rule] * bool(self.total or self.note) + lines[len(self.rows) + 1 :] + [self.note] * bool(self.note)
        return "\n".join([*[self.title, ""] * bool(self.title), lines[0], rule, *body, *last])

    def html(self) -> str:
        """Return the table as an element of HTML."""
        caption = f"<caption>{self.title.translate(_ESCAPED)}</caption>" if self.title else ""
        body = "".join(self._html_row(row, "td") for row in self.rows)
        last = "".join(self._html_row(row, "th") for row in self._totals)
        if self.note:
            last += f"<tr>{_cell(self.note, 'td', 'left', span=len(self.header))}</tr>"
        return (
            f"<table>{caption}<thead>{self._html_row(self.header, 'th')}</thead><tbody>{body}</tbody>"
            f"<tfoot>{last}</tfoot></table>"
        )

    @property
    def _totals(self) -> list[Row]:
        return [self.total] if self.total else []

    def _html_row(self, row: Row, element: str) -> str:
        sides = ("left" if i < self.n_names else "right" for i in range(len(row)))
        return f"<tr>{''.join(_cell(text, element, side) for text, side in zip(row, sides, strict=True))}</tr>"


def _cell(text: str, element: str, side: str, span: int = 1) -> str:
    attributes = f'colspan="{span}" style="text-align: {side}"'
    return f"<{element} {attributes}>{text.translate(_ESCAPED)}</{element}>"


class TableText(str):
    """The text of a table, shown as it stands at a prompt and as HTML in a notebook."""

    _html: str

    def __new__(cls, text: str, html: str = "") -> "TableText":
        """Make the text of a table with its HTML."""
        self = super().__new__(cls, text)
        self._html = html
        return self

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return self._html
