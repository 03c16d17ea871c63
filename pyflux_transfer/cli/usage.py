"""What is wrong with a command line: the option as it is typed, its value, the rule, a remedy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import typer

from pyflux_transfer.errors import nearest, shortened
from pyflux_transfer.rules import rule

# A message of the library begins with a parameter's name, or gives one with its value.
_SUBJECT = re.compile(r"^([a-z]\w*)(?= (?:must|belongs?|and ))")
_VALUE = re.compile(r"(?<![^\s(])([a-z]\w*)=(?:'([^']*)'|\((\w+),?\)|([\w.]*\w))?")
_MANY = re.compile(r"^Got unexpected extra argument(?:\(s\)|s?) \((.*)\)$", re.DOTALL)
_ELSEWHERE = {"train": {"depth": "--fine-tune", "fine_lr": "--lr"}}  # named otherwise in Python


def told(error: typer.TyperException, words: Sequence[str]) -> str:
    """Return one line: what is wrong, and which help says more."""
    command = next((word for word in words if not word.startswith("-")), "")
    known = command and "No such command" not in error.format_message()
    page = f"pyflux-transfer {command} --help" if known else "pyflux-transfer --help"
    return f"{_fault(error)} See: {page}"


def _fault(error: typer.TyperException) -> str:
    """Return the fault as a sentence; what a check of types says of a value, in our words."""
    parameter: Any = getattr(error, "param", None)
    faults = getattr(error.__cause__, "errors", None)
    if parameter is not None and faults is not None:
        name = "/".join(parameter.opts) if parameter.opts[0][0] == "-" else parameter.metavar
        said = f"{name} {rule(faults(include_url=False)[0])}"
        return said if said[-1] in ".?" else f"{said}."
    typed = getattr(error, "option_name", "")
    if typed and type(error).__name__ == "NoSuchOption":
        near = nearest(typed, _options(error), 0.7)
        meant = f" Did you mean '{near}'?" if near else ""
        return f"There is no option {shortened(typed)}.{meant}"
    if typed:
        return f"{shortened(typed)} needs a value."
    message = _MANY.sub(r"There is no place for \1.", error.format_message())
    return message if message[-1] in ".?" else f"{message}."


def _options(error: typer.TyperException) -> Iterable[str]:
    context: Any = getattr(error, "ctx", None)
    shown = (one for one in context.command.params if not getattr(one, "hidden", False))
    return [word for one in shown for word in one.opts if word.startswith("--")]


def options_of(command: Any) -> dict[str, str]:
    """Return a command's options by the names that the library has for them."""
    own = {one.name: one.opts[0] for one in command.params if one.opts[0].startswith("--")}
    return {**own, **_ELSEWHERE.get(command.name, {})}


def as_typed(message: str, options: Mapping[str, str]) -> str:
    """Return a message of the library with its parameters named as options are typed.

    "batch_size must …" becomes "--batch-size must …", "views=3" becomes "--views 3", "resume=True"
    becomes "--resume". `options` are by parameter.
    """

    def value(found: re.Match[str]) -> str:
        name, *values = found.groups()
        if name not in options:
            return found[0]
        given = next((one for one in values if one), "")
        option = options[name]
        words = {
            "": option,
            "True": option,
            "False": f"--no-{option[2:]}",
            "None": f"{option} none",
        }
        return words.get(given) or f"{option} {given}"

    spelt = _SUBJECT.sub(lambda found: options.get(found[1], found[1]), message)
    return _VALUE.sub(value, spelt)
