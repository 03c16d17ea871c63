from __future__ import annotations

import pytest

from pyflux_transfer import errors
from pyflux_transfer.errors import InputError, PyFluxTransferError, lookup


def test_the_tree_has_one_root_and_two_exit_statuses() -> None:
    tree = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)]
    assert len(tree) >= 9
    for error in tree:
        assert issubclass(error, PyFluxTransferError)
        assert error.exit_status == (2 if issubclass(error, InputError) else 1)


def test_lookup_returns_the_row() -> None:
    assert lookup({"a": 1, "b": None}, "a", "letter") == 1
    assert lookup({"a": 1, "b": None}, "b", "letter") is None


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("resnet5", "Unknown network 'resnet5'. Did you mean 'resnet50'? See: models"),
        ("ResNet50", "Did you mean 'resnet50'?"),
        ("xyzzy", "Unknown network 'xyzzy'. See: models"),
        ("", "Unknown network ''. See: models"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, says: str) -> None:
    with pytest.raises(InputError, match=says.replace("?", r"\?")):
        lookup({"resnet50": 1, "vgg16": 2}, name, "network", see="See: models")


def test_without_a_place_to_see_the_choices_are_listed() -> None:
    with pytest.raises(InputError, match=r"Choose from: sgd, adam\.$"):
        lookup({"sgd": 1, "adam": 2}, "lion", "optimizer")
