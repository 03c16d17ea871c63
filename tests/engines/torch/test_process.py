"""Networks in other processes: as copies, and in forks."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from multiprocessing.connection import Connection

import numpy as np
import pytest

from pyflux_transfer.classifier import Classifier, load
from pyflux_transfer.errors import EngineError


@pytest.fixture(scope="module")
def model() -> Classifier:
    net = load("resnet18", weights=None, engine="torch", precision="fp32")
    return net.with_head(["ants", "bees"])


IMAGE = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)


@pytest.mark.parametrize("how", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_predicts_the_same_and_shares_nothing(how: object, model: Classifier) -> None:
    wanted = model.predict(IMAGE)
    other: Classifier = how(model)  # type: ignore[operator]
    assert other.predict(IMAGE) == wanted
    assert (other.classes, other.units) == (model.classes, model.units)
    state = other.network.state()
    state["fc.weight"] = -state["fc.weight"]
    other.network.load_state(state)
    assert model.predict(IMAGE) == wanted
    assert other.predict(IMAGE) != wanted


def in_the_child(model: Classifier, pipe: Connection) -> None:
    try:
        model.predict(IMAGE)
    except EngineError as error:
        pipe.send(str(error))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_is_told_instead_of_waiting_for_ever(model: Classifier) -> None:
    model.predict(IMAGE)
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=in_the_child, args=(model, theirs))
    child.start()
    assert ours.poll(60)
    assert "get_context('spawn')" in ours.recv()
    child.join()
