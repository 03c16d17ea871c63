from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pyflux_transfer.export import classifier
from pyflux_transfer.export.facts import INPUTS
from pyflux_transfer.export.pictures import picture
from pyflux_transfer.export.running import Exported
from pyflux_transfer.networks.catalog import MODELS
from pyflux_transfer.networks.head import Head
from tests.engines.small import SMALL
from tests.export.bundles import bundle

HOSTILE = ("ant\nbee", '"},{"', "\0", "läuse 🐝", "<script>", "../../x")


@pytest.mark.parametrize("given", INPUTS)
def test_a_file_tells_what_it_is(
    given: classifier.Input, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = SMALL["efficientnet"]
    monkeypatch.setitem(MODELS, row.name, row)
    made = bundle(row, Head(len(HOSTILE)), HOSTILE)
    path = tmp_path / "model.onnx"
    path.write_bytes(classifier.model(made, given).SerializeToString())
    exported = Exported(path)
    facts = exported.facts
    assert tuple(json.loads(facts["classes"])) == HOSTILE
    assert json.loads(facts["preprocessing"]) == made.preprocessing.to_json() | {
        name: list(getattr(made.preprocessing, name)) for name in ("mean", "std", "background")
    }
    assert facts["architecture"] == row.name
    assert json.loads(facts["temperature"]) == 1.5
    assert json.loads(facts["provenance"]) == {"weights": "none"}
    assert facts["input"] == given
    side = made.preprocessing.crop
    image = picture(20, 30) if given == "image" else np.zeros((2, 3, side, side), np.float32)
    found = exported(image)
    assert found.shape == (1 if given == "image" else 2, len(HOSTILE))
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)


def test_a_fact_that_a_bundle_lacks_is_left_out() -> None:
    from dataclasses import replace

    from pyflux_transfer.export.facts import facts

    made = replace(bundle(SMALL["efficientnet"], Head(2)), info={})
    assert not {"weights", "provenance"} & set(facts(made, "image"))
