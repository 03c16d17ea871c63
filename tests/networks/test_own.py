"""Networks whose layers Julia code makes, as their plan tells them."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from pyflux_transfer.engines import own
from pyflux_transfer.engines.base import Plan
from pyflux_transfer.engines.flux.network import describe
from pyflux_transfer.engines.torch.network import build
from pyflux_transfer.errors import EngineError, InputError
from pyflux_transfer.networks.head import Head
from pyflux_transfer.networks.own import from_plan, is_own


def row(name: str, stage: str, arrays: dict[str, list[int]], **options: int) -> dict[str, Any]:
    layers = [{"name": n, "op": "array", "shape": s, "bias": False} for n, s in arrays.items()]
    return {"name": name, "kind": "own", "stage": stage, "options": options, "layers": layers}


UNITS = [
    row("trunk.1", "stage1", {"trunk.1.weight": [8, 3, 3, 3], "trunk.1.running_mean": [8]},
        **{"in": 3, "out": 8, "axes": 4, "ends": 4}),
    row("head.1", "head", {}, **{"in": 8, "out": 8, "axes": 4, "ends": 2}),
    row("head.2", "head", {"head.2.weight": [5, 8]}, **{"in": 8, "out": 5, "axes": 2, "ends": 2}),
]  # fmt: skip
TEXT = json.dumps({"constructor": "", "arguments": [], "keywords": {}, "own": "Mine.net(5)",
                   "all": UNITS, "units": UNITS})  # fmt: skip


def test_a_plan_tells_units_tensors_and_outputs() -> None:
    found = from_plan(TEXT)
    assert is_own(found.name)
    assert (found.name, found.own, found.classes) == ("julia:Mine.net(5)", "Mine.net(5)", 5)
    assert (found.parameters, found.statistics) == (8 * 27 + 40, 8)
    assert found.units[0].tensors["trunk.1.weight"] == (8, 3, 3, 3)
    assert pickle.loads(pickle.dumps(found)).units == found.units


def test_the_plan_is_told_to_julia_as_it_came_and_with_a_head() -> None:
    found = from_plan(TEXT)
    assert json.loads(describe(Plan(found))) == json.loads(TEXT)
    told = json.loads(describe(Plan(found, Head(2))))
    assert [unit["kind"] for unit in told["units"]] == ["own", "avgpool", "flatten", "dense"]
    assert told["all"] == UNITS
    assert from_plan(json.dumps(told)).units == found.units


def test_a_whole_classifier_can_be_kept() -> None:
    units = Plan(from_plan(TEXT), Head(2, keep="classifier")).units
    assert units[-1].tensors == {"head.weight": (2, 5), "head.bias": (2,)}


def test_tokens_are_no_input_of_a_new_head() -> None:
    tokens = json.loads(TEXT)
    tokens["all"][0]["options"]["ends"] = 3
    with pytest.raises(InputError, match="keep='classifier'"):
        _ = Plan(from_plan(json.dumps(tokens)), Head(2)).units


@pytest.mark.parametrize("lacking", ["own", "all"])
def test_what_is_no_plan_of_ones_own_is_refused(lacking: str) -> None:
    row = json.loads(TEXT)
    del row[lacking]
    with pytest.raises(KeyError):
        from_plan(json.dumps(row))


def test_torch_refuses_with_the_name_and_a_remedy() -> None:
    for work in (
        lambda: build(Plan(from_plan(TEXT))),
        lambda: own("torch", "julia:Mine.net(5)", 9),
    ):
        with pytest.raises(EngineError, match=r"julia:Mine\.net\(5\).*engine='flux'.*setup"):
            work()
