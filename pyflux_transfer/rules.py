"""What a check of types found wrong with a value, said as a rule a person can follow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pyflux_transfer.errors import nearest

# pydantic's type of error → the rule
_RULES = {
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "bool_parsing": "must be true or false",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "missing": "is missing",
}


def rule(fault: Mapping[str, Any], shown: bool = True) -> str:
    """Return what one of pydantic's errors asks for, and what it got unless that is a secret."""
    value = fault.get("input")
    text = str(fault["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    kind, given = fault["type"], f", got {value!r}"
    if kind == "missing":
        return _RULES[kind]
    if kind in _RULES:
        return _RULES[kind].format(**fault.get("ctx", {})) + (given if shown else "")
    if known := _choices(text):
        near = nearest(str(value), known, 0.7)
        meant = f". Did you mean '{near}'?" if near else ""
        return f"must be one of {', '.join(known)}{given}{meant}"
    return f"is wrong: {text}"


def _choices(text: str) -> list[str]:
    """Return the quoted words of "'a', 'b' or 'c'" or of "'x' is not one of 'a', 'b'."."""
    _, found, rest = text.partition(" is not one of ")
    listed = rest if found else text
    one = r"'[^']*'"
    if not re.fullmatch(rf"{one}(?:(?:, | or ){one})*\.?", listed):
        return []
    return re.findall(r"'([^']*)'", listed)
