"""How tables look, on a terminal and in a log."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

# Names of files and classes are shown as they are: no markup, no emoji codes.
console = Console(highlight=False, markup=False, emoji=False)
errors = Console(highlight=False, markup=False, emoji=False, stderr=True)
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
