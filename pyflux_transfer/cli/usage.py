"""What is wrong with a command line: the option as it is typed, its value, the rule, a remedy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import typer

from pyflux_transfer.errors import shortened, suggest
from pyflux_transfer.rules import rule

# A message of the library begins with a parameter's name, or gives one with its value.
_SUBJECT = re.compile(r"^([a-z]\w*)(?= (?:must|belongs?|and ))")
_VALUE = re.compile(r"(?<![\w.-])([a-z]\w*)=(?:'([^']*)'|([\w.]+))(?!\()")


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
        return f"There is no option {shortened(typed)}.{suggest(typed, _options(error))}"
    message = error.format_message().replace("argument(s)", "arguments")
    return message if message[-1] in ".?" else f"{message}."


def _options(error: typer.TyperException) -> Iterable[str]:
    context: Any = getattr(error, "ctx", None)
    return [word for one in context.command.params for word in one.opts if word[:2] == "--"]


def as_typed(message: str, options: Mapping[str, str]) -> str:
    """Return a message of the library with parameters named as the options of a command.

    `options` are by parameter: "batch_size must …" becomes "--batch-size must …", "views=3" becomes
    "--views 3".
    """

    def value(found: re.Match[str]) -> str:
        name, quoted, plain = found.groups()
        return f"{options[name]} {quoted or plain}" if name in options else found[0]

    spelt = _SUBJECT.sub(lambda found: options.get(found[1], found[1]), message)
    return _VALUE.sub(value, spelt)
