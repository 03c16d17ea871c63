"""Every architecture against torchvision's and timm's own modules, run in their own environment.

`make test-peers` sets PYFLUX_PEERS to that environment's Python. With PYFLUX_RECORD set the
tests write what they found into tests/engines/fixtures, for the ordinary suite: a file for each row
that has no definition in tests/engines/reference.py.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyflux_transfer.engines.base import Plan
from pyflux_transfer.engines.torch.network import build
from pyflux_transfer.networks.catalog import MODELS
from pyflux_transfer.networks.units import tensors
from tests.engines.recorded import FIXTURES, LARGEST, recording
from tests.engines.reference import REFERENCES
from tests.engines.seeded import noise, seeded

PEERS = os.environ.get("PYFLUX_PEERS", "")

pytestmark = [
    pytest.mark.peers,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not PEERS, reason="needs torchvision and timm: run `make test-peers`"),
]

Asked = Callable[..., Any]


@pytest.fixture(scope="module")
def ask() -> Iterator[Asked]:
    """Ask the other side: one process for all rows, since it takes long to start."""
    command = [PEERS, "-m", "tests.peers.theirs"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        stdin, stdout = process.stdin, process.stdout

        def asked(**question: Any) -> Any:
            stdin.write(json.dumps(question) + "\n")
            stdin.flush()
            answer: dict[str, Any] = {}
            while answer.get("name") != question["name"]:  # of a row that was given up
                line = stdout.readline()
                assert line, "the peers' process has ended; its error stands above"
                answer = json.loads(line)
            assert "error" not in answer, answer["error"]
            return answer["tensors"]

        yield asked
        stdin.close()


@pytest.mark.parametrize("name", MODELS)
def test_names_shapes_and_logits_are_theirs(name: str, ask: Asked, tmp_path: Path) -> None:
    shapes = tensors(MODELS[name].units)
    file = tmp_path / "logits.npz"
    theirs = ask(name=name, shapes=shapes, out=str(file))
    if theirs:
        body = {n: s for n, s in shapes.items() if "linear_head" not in n}
        assert {n: tuple(shape) for n, shape in theirs.items()} == body
    network = build(Plan(MODELS[name], seed=None, precision="fp32"))
    network.load_state(seeded(name, shapes))
    with np.load(file) as found:
        expected = dict(found)
    assert expected
    for what, logits in expected.items():
        library, side = what.split()
        ours = network.logits(network.embed(noise(2, 3, int(side), int(side))))
        largest = float(np.abs(logits).max())
        difference = float(np.abs(ours - logits).max()) / largest
        _note(name, library, int(side), difference)
        assert logits.std() > 1e-2, what
        assert 0.1 < largest < 1e30, what
        assert np.abs(logits[0] - logits[1]).max() > 1e-3 * largest, "the images hardly matter"
        assert difference < 1e-5, what
    small = MODELS[name].parameters <= LARGEST
    if os.environ.get("PYFLUX_RECORD") and small and name not in REFERENCES:
        FIXTURES.mkdir(exist_ok=True)
        (FIXTURES / f"{name}.json").write_text(recording(expected), encoding="utf-8")


def _note(name: str, library: str, side: int, difference: float) -> None:
    """Append a difference to the file that PYFLUX_PARITY names."""
    if file := os.environ.get("PYFLUX_PARITY"):
        row = {"name": name, "library": library, "side": side, "difference": difference}
        with Path(file).open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
