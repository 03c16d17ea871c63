"""Errors of usage: the option as typed, its value, the rule, and which help says more."""

from __future__ import annotations

import pytest

from pyflux_transfer.cli.usage import as_typed
from pyflux_transfer.rules import rule

OPTIONS = {
    "batch_size": "--batch-size", "views": "--views", "augment": "--augment", "hidden": "--hidden",
    "resume": "--resume", "run_dir": "--run-dir", "cache": "--cache", "weights": "--weights",
    "size": "--size", "quality": "--quality",
}  # fmt: skip


@pytest.mark.parametrize(
    ("said", "typed"),
    [
        ("batch_size must be at least 1, got 0.", "--batch-size must be at least 1, got 0."),
        ("views=3 needs one, got augment='none'.", "--views 3 needs one, got --augment none."),
        ("Use hidden=(256,) for new ones.", "Use --hidden 256 for new ones."),
        ("resume=True needs run_dir=, a folder.", "--resume needs --run-dir, a folder."),
        ("Give cache=False.", "Give --no-cache."),
        ("Or weights=None, or weights='a/b.pth'.", "Or --weights none, or --weights a/b.pth."),
        ("The value views of other=3 stays.", "The value views of other=3 stays."),
        ("size 7 is too small", "size 7 is too small"),
        ("max_size=3 and 'photos/size=3.jpg'", "max_size=3 and 'photos/size=3.jpg'"),
        ("'size=3' is no file", "'size=3' is no file"),
        ("quality and minutes belong there", "--quality and minutes belong there"),
    ],
)
def test_a_message_of_the_library_names_options_as_typed(said: str, typed: str) -> None:
    assert as_typed(said, OPTIONS) == typed


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"type": "int_parsing", "input": "1.5", "msg": ""}, "must be a whole number, got '1.5'"),
        ({"type": "greater_than_equal", "input": "0", "msg": "", "ctx": {"ge": 1.0}},
         "must be at least 1, got '0'"),
        ({"type": "missing", "input": {}, "msg": "Field required"}, "is missing"),
        ({"type": "literal_error", "input": "pda", "msg": "Input should be 'crop', 'pad' or 'x'"},
         "must be one of crop, pad, x, got 'pda'"),
        ({"type": "value_error", "input": "croop",
          "msg": "Value error, 'croop' is not one of 'crop', 'pad'."},
         "must be one of crop, pad, got 'croop'. Did you mean 'crop'?"),
        ({"type": "value_error", "input": "a'b", "msg": "Value error, it's odd"},
         "is wrong: it's odd"),
    ],
)  # fmt: skip
def test_what_a_check_of_types_found_is_said_as_a_rule(fault: dict[str, object], said: str) -> None:
    assert rule(fault) == said


def test_a_secret_is_not_shown() -> None:
    fault = {"type": "float_parsing", "input": "my-key", "msg": ""}
    assert rule(fault, shown=False) == "must be a number"
