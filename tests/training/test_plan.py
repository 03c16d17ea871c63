from __future__ import annotations

import pytest

from pyflux_transfer.errors import InputError
from pyflux_transfer.networks.catalog import MODELS
from pyflux_transfer.networks.head import Head, with_head
from pyflux_transfer.networks.units import stages
from pyflux_transfer.training.plan import Phase, gradual

UNITS = with_head(MODELS["resnet18"].units, Head(2))


def test_the_head_comes_first_then_deeper_stages() -> None:
    head, *deeper = gradual(UNITS, 3, 5, 1e-3, 1e-4, depth=2)
    assert UNITS[head.cut].name == "fc"
    assert (head.epochs, head.lr) == (3, 1e-3)
    assert [UNITS[phase.cut].stage for phase in deeper] == ["stage4", "stage3"]
    assert [phase.epochs for phase in deeper] == [2, 3]
    assert all(phase.lr == 1e-4 for phase in deeper)


@pytest.mark.parametrize("epochs", range(1, 12))
@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_the_epochs_are_shared_fully_deeper_phases_no_less(epochs: int, depth: int) -> None:
    shares = [phase.epochs for phase in gradual(UNITS, 0, epochs, 1, 1, depth)]
    assert sum(shares) == epochs
    assert shares == sorted(shares)
    assert len(shares) == min(depth, epochs)


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_can_be_unfrozen_stage_by_stage(name: str) -> None:
    units = with_head(MODELS[name].units, Head(2))
    depth = len(stages(units)) - 1
    phases = gradual(units, 1, depth, 1e-3, 1e-4, depth)
    cuts = [phase.cut for phase in phases]
    assert cuts == sorted(set(cuts), reverse=True)
    assert cuts[-1] == 0
    assert all(units[cut].layers for cut in cuts)


def test_no_epochs_for_the_head_leave_its_phase_out() -> None:
    assert len(gradual(UNITS, 0, 2, 1, 1, depth=1)) == 1


@pytest.mark.parametrize(
    ("freeze_epochs", "epochs", "depth", "says"),
    [
        (-1, 5, 1, "freeze_epochs must be at least 0"),
        (3, 0, 1, "epochs at least 1"),
        (3, 5, 0, "depth must be from 1 to 5, got 0"),
        (3, 5, 6, "depth must be from 1 to 5, got 6"),
    ],
)
def test_plans_that_cannot_be_are_refused(
    freeze_epochs: int, epochs: int, depth: int, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        gradual(UNITS, freeze_epochs, epochs, 1, 1, depth)


@pytest.mark.parametrize(
    ("epochs", "lr", "says"),
    [
        (0, 1e-3, "epochs must be a whole number of at least 1, got 0"),
        (2.5, 1e-3, "got 2.5"),
        (1, 0.0, "learning rate must be positive, got 0"),
        (1, -1e-3, "learning rate must be positive"),
        (1, float("nan"), "learning rate must be positive, got nan"),
        (1, float("inf"), "learning rate must be positive, got inf"),
    ],
)
def test_phases_that_cannot_be_are_refused(epochs: int, lr: float, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Phase(0, epochs, lr)
