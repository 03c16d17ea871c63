"""How help looks: plain lines that fit the terminal, options under headings.

An option's heading is its `rich_help_panel`; those without one come first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from pyflux_transfer.cli.usage import as_typed, options_of
from pyflux_transfer.errors import PyFluxTransferError

WIDEST, WIDEST_NAME = 100, 27  # of a line, and of an option beside its text
_RANGE = re.compile(r"(?:; (?:[-\d.]+<=)?x[<>]=[-\d.]+(\]))|(?:  \[(?:[-\d.]+<=)?x[<>]=[-\d.]+\])")
# What stands for a value whose option names none.
_VALUES = {
    "<list[int]>": "N", "<list[str]>": "TEXT", "<int range>": "N", "<int>": "N",
    "<float range>": "X", "<float>": "X", "<path>": "PATH", "<str>": "TEXT",
}  # fmt: skip


class Command(TyperCommand):
    """A command whose options stand under headings, and whose errors name them as typed."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words behind the command's name; none stands in braces."""
        return [
            word.replace("{", "").replace("}", "") for word in super().collect_usage_pieces(ctx)
        ]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, the options people need first, then those under headings."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for one in self.get_params(ctx):
            if record := one.get_help_record(ctx):
                usual = "Arguments" if one.param_type_name == "argument" else "Options"
                heading = getattr(one, "rich_help_panel", None) or usual
                sections.setdefault(heading, []).append(_row(*record, usual == "Arguments"))
        names = [name for rows in sections.values() for name, _ in rows]
        width = max(len(name) for name in names if len(name) <= WIDEST_NAME)
        for title, rows in sections.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl([(name.ljust(width), text) for name, text in rows], width)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an error's message names its options as they are typed."""
        try:
            return super().invoke(ctx)
        except PyFluxTransferError as error:
            error.args = (as_typed(str(error), options_of(self)), *error.args[1:])
            raise


class Group(TyperGroup):
    """Commands, each with its first sentence whole."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands in the order in which they were added."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, one.get_short_help_str(10_000)) for name, one in found if one]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _row(name: str, text: str, argument: bool) -> tuple[str, str]:
    """Return a line of help; a range such as `x>=1` is left to the message that refuses."""
    if argument:
        name = name.split(" <")[0]
    for long, short in _VALUES.items():
        name = name.replace(long, short)
    name = name.replace("<", "").replace(">", "")
    return name, _RANGE.sub(r"\1", text)


class Program(typer.Typer):
    """A command line whose help is plain, and each of whose commands is a `Command`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            rich_markup_mode=None, pretty_exceptions_enable=False, cls=Group,
            context_settings={"max_content_width": WIDEST}, **options,
        )  # fmt: skip

    def command(self, *words: Any, **options: Any) -> Callable[[Any], Any]:
        """Add a command."""
        return super().command(*words, **{"cls": Command, **options})
