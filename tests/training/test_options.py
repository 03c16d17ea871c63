from __future__ import annotations

import json
from dataclasses import fields
from typing import Any, get_type_hints

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from pyflux_transfer.errors import InputError
from pyflux_transfer.training.options import OptionFields, Options, class_weights


def test_the_fields_for_keyword_calls_are_the_options() -> None:
    assert list(get_type_hints(OptionFields)) == [field.name for field in fields(Options)]
    assert get_type_hints(OptionFields) == get_type_hints(Options)


def test_the_defaults_are_valid_and_plain_data() -> None:
    assert json.loads(json.dumps(Options().to_json())) == Options().to_json()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"optimizer": "adamW"}, "Unknown optimizer 'adamW'. Did you mean 'adamw'"),
        ({"schedule": "cosin"}, "Unknown schedule 'cosin'. Did you mean 'cosine'"),
        ({"solver": "lbgfs"}, "Unknown solver 'lbgfs'. Did you mean 'lbfgs'"),
        ({"augment": "lite"}, "Unknown augmentation 'lite'. Did you mean 'light'"),
        ({"augment": ["flip", "rotate"]}, "Unknown augmentation 'rotate'"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"batch_size": 2.5}, "batch_size must be a whole number of at least 1, got 2.5"),
        ({"batch_size": "8"}, "batch_size must be a whole number of at least 1, got '8'"),
        ({"workers": 0}, "workers must be a whole number"),
        ({"views": -1}, "views must be a whole number"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"max_pixels": 0}, "max_pixels must be a whole number"),
        ({"lr_decay": 0}, r"lr_decay must be in \(0, 1\]"),
        ({"lr_decay": 1.5}, r"lr_decay must be in \(0, 1\]"),
        ({"momentum": 1}, r"momentum must be in \[0, 1\)"),
        ({"weight_decay": -1e-3}, "weight_decay must not be negative"),
        ({"weight_decay": float("nan")}, "weight_decay must not be negative"),
        ({"label_smoothing": 1}, r"label_smoothing must be in \[0, 1\)"),
        ({"patience": 0}, "patience must be at least 1"),
        ({"views": 4}, "views=4 needs an augmentation"),
        ({"solver": "lbfgs", "augment": "light"}, "solver='lbfgs' needs features that are kept"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_made(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Options.of(changes)


def test_views_of_an_augmentation_can_be_solved() -> None:
    assert Options(solver="lbfgs", augment="light", views=2).views == 2


@pytest.mark.parametrize(
    ("name", "meant"), [("batchsize", "batch_size"), ("weightdecay", "weight_decay")]
)
def test_a_misspelt_option_is_answered_with_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(InputError, match=f"Unknown option '{name}'. Did you mean '{meant}'"):
        Options.of({name: 1})


def test_what_may_be_given_beside_options_may_have_been_meant() -> None:
    with pytest.raises(InputError, match="Did you mean 'epochs'"):
        Options.of({"epoch": 3}, beside=["epochs", "lr"])


def test_augmentations_are_kept_by_their_names() -> None:
    assert Options(augment=["flip", "crop"]).to_json()["augment"] == "crop,flip"
    assert Options(augment="light").to_json()["augment"] == "crop,flip"
    assert Options(augment=[]).to_json()["augment"] == "none"


def test_the_engine_gets_its_part() -> None:
    options = Options(optimizer="sgd", momentum=0.5, weight_decay=0.1, seed=7, freeze_bn=True)
    update = options.update()
    assert (update.optimizer, update.momentum, update.weight_decay) == ("sgd", 0.5, 0.1)
    assert (update.seed, update.freeze_bn) == (7, True)


LABELS = np.array([0, 0, 0, 1, 2, 2], np.int64)
NAMES = ("ants", "bees", "cats")


def test_balanced_weights_are_scikit_learns() -> None:
    found = class_weights("auto", LABELS, NAMES)
    assert found is not None
    wanted = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert found.dtype == np.float32


def test_weights_by_name_follow_the_order_of_the_classes() -> None:
    found = class_weights({"cats": 3.0, "ants": 1.0, "bees": 2.0}, LABELS, NAMES)
    np.testing.assert_array_equal(found, np.array([1, 2, 3], np.float32))
    assert class_weights(None, LABELS, NAMES) is None


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("balanced", "must be None, 'auto' or a mapping, got 'balanced'"),
        ({"ants": 1.0}, "must name every class once"),
        ({"ants": 1.0, "bees": 1.0, "cats": 1.0, "dogs": 1.0}, "must name every class once"),
        ({"ants": 1.0, "bees": 0.0, "cats": 1.0}, "must be positive"),
        ({"ants": 1.0, "bees": float("nan"), "cats": 1.0}, "must be positive"),
        ({"ants": 1.0, "bees": float("inf"), "cats": 1.0}, "must be positive"),
    ],
)
def test_weights_that_cannot_be_are_refused(option: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        class_weights(option, LABELS, NAMES)
