"""A message that names an option is met only where that option is."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
import typer.main

from pyflux_transfer.classifier import Classifier
from pyflux_transfer.cli.app import app
from pyflux_transfer.cli.serve import _command
from pyflux_transfer.data.dataset import scan
from pyflux_transfer.training.options import Options

ROOT = Path(__file__).parents[2] / "pyflux_transfer"
TRAINS, READS = ("train",), ("train", "compare", "evaluate", "features")
# module → the commands that its messages reach; "*" is any command of the line
REACH = {
    "data/dataset.py": READS,
    "data/decode.py": (*READS, "predict", "serve"),
    "data/reading.py": (*READS, "predict", "serve"),
    "training/store.py": ("train", "features"),
    "training/*": TRAINS,
    "engines/*": ("*",),
    "installation/setup.py": ("setup",),
    "installation/image.py": ("setup",),
    "installation/*": ("doctor",),
    "serving/*": ("serve",),
    "export/*": ("export",),
    "insight/page.py": ("check",),
    "insight/findings.py": ("train", "check"),
    "cluster/data.py": ("predict", "features", "train", "search"),
    "cluster/search.py": ("search",),
    "cluster/*": ("predict", "features"),
    "cli/scale.py": ("predict", "features"),
    "cli/app.py": ("*",),
    "cli/options.py": ("train",),
    "cli/networks.py": ("features",),
    "cli/following.py": ("next",),
    "cli/streaming.py": ("predict",),
    "cli/refusals.py": TRAINS,
    "cli/*": ("{stem}",),
}
FOREIGN = {
    "--head",
    "--force-reinstall",
    "--startup-file",
    "--version",
    "--help",
    "--threads",
    "--debug",
}


def commands() -> dict[str, set[str]]:
    """Return the options of each command."""
    inner = typer.Typer()
    inner.command()(_command())
    group = typer.main.get_command(app)
    found = {**group.commands, "serve": typer.main.get_command(inner)}  # type: ignore[attr-defined]
    return {
        name: {word for one in command.params for word in (*one.opts, *one.secondary_opts)}
        for name, command in found.items()
    }


def messages() -> Iterator[tuple[str, str]]:
    """Yield the module and the text of each message that is raised."""
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            is_error = isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Error")
            for part in ast.walk(node) if is_error else ():
                if isinstance(part, ast.JoinedStr):
                    yield path.relative_to(ROOT).as_posix(), ast.unparse(part)
                elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield path.relative_to(ROOT).as_posix(), part.value


def reach(module: str) -> tuple[str, ...]:
    pattern = next((p for p in REACH if fnmatch(module, p)), None)
    assert pattern, f"{module} names an option: say which commands its messages reach"
    stem = Path(module).stem
    return tuple(name.format(stem=stem) for name in REACH[pattern])


def test_every_option_a_message_names_is_where_the_message_is_met() -> None:
    known = commands()
    everywhere = set().union(*known.values())
    seen = 0
    for module, text in set(messages()):
        named = re.findall(r"pyflux-transfer (\w+)", text)  # which it tells to run
        for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - FOREIGN:
            seen += 1
            if any(option in known[name] for name in named):
                continue
            for name in reach(module):
                there = everywhere if name == "*" else known[name]
                assert option in there, f"{module} says {option}, which `{name}` has not: {text}"
    assert seen > 10


@pytest.mark.parametrize("name", ["max_pixels", "max_skipped"])
def test_limits_are_named_for_both_interfaces_and_are_there(name: str) -> None:
    option = "--" + name.replace("_", "-")
    said = [text for _, text in messages() if re.search(rf"raise {name}\b", text)]
    assert said
    assert all(f"{name} ({option})" in text for text in said)
    for call in (scan, Classifier.evaluate, Classifier.features, Options):
        assert name in inspect.signature(call).parameters
    for command, options in commands().items():
        if command in READS:
            assert option in options
