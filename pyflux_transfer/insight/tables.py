"""How tables look, on a terminal and in a log."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table


def _console(stderr: bool = False) -> Console:
    """Return a console that shows names of files and classes as they are: no markup, no emoji."""
    made = Console(highlight=False, markup=False, emoji=False, stderr=stderr)
    if made.is_jupyter:  # a cell holds a table as HTML and as text, without a terminal's codes
        made = Console(highlight=False, markup=False, emoji=False, stderr=stderr, color_system=None)
    return made


console, errors = _console(), _console(stderr=True)
_ASCII = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)


def table(*headers: str) -> Table:
    """Begin a table that is light enough for 80 columns."""
    return Table(
        *headers, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0)
    )


def plain_table(*headers: str) -> Table:
    """Begin a table of ASCII alone."""
    return Table(*headers, box=_ASCII, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))


def show(content: Table, out: Console) -> None:
    """Print a table: fitted to a terminal, elsewhere as wide as it is, nothing cut off."""
    if not out.is_terminal:
        out.width = 10_000
    out.print(content)
