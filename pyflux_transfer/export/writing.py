"""`export`: writes a bundle's ONNX file once its answers were seen to be the bundle's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyflux_transfer import predict
from pyflux_transfer.bundle import Bundle
from pyflux_transfer.data.decode import MAX_PIXELS, Source
from pyflux_transfer.engines.base import Network
from pyflux_transfer.errors import InputError
from pyflux_transfer.storage import check_writable, replacing

if TYPE_CHECKING:
    from pyflux_transfer.export.classifier import Input
    from pyflux_transfer.export.int8 import Quantised
    from pyflux_transfer.export.running import Comparison

MAX_LOSS = 0.01  # by default, of accuracy or agreement in 8 bits


@dataclass(frozen=True)
class Export:
    """A written file, how it compares with the bundle, and what 8 bits cost where asked for."""

    path: Path
    bytes: int
    compared: Comparison | None
    quantised: Quantised | None


def export(
    bundle: Bundle,
    out: str | Path,
    *,
    input: Input = "image",
    compare: predict.Photos | None = None,
    int8: predict.Photos | None = None,
    max_loss: float = MAX_LOSS,
    check: bool = True,
    engine: str = "auto",
    network: Network | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Export:
    """Write a bundle as an ONNX file, atomically, and tell how it compares.

    `input` is as in `classifier.model`. The file is run by ONNX Runtime and compared with `engine`
    in float32, or with `network`, on the photos of `compare`, else on made pictures; `check=False`
    leaves that out and needs no engine. `int8` names photos on which it is quantised.

    Raises InputError where a package is missing or a name does not end in .onnx, ExportError where
    the answers differ or 8 bits lose more than `max_loss`, StorageError where it cannot be
    written; whatever was there before is then unchanged.
    """
    target = prepared(out)
    from pyflux_transfer.export.classifier import model

    calibrating = None if int8 is None else predict.sources(int8)
    if calibrating is not None:  # some ONNX Runtimes import PyTorch for it
        from pyflux_transfer.export import int8 as eight

        eight.check(calibrating, max_loss)
    comparing = None if compare is None else predict.sources(compare)
    if check and network is None:
        network = predict.restore(bundle, engine, precision="fp32")
    made = model(bundle, input).SerializeToString()
    compared = quantised = None
    with replacing(target) as temporary:
        temporary.write_bytes(made)
        del made
        if check and network is not None:
            compared = _compared(temporary, network, bundle, comparing, max_pixels)
        if calibrating is not None:
            with _beside(temporary) as exact:
                quantised = eight.quantise(
                    exact, temporary, bundle, calibrating, max_loss, max_pixels
                )
        size = temporary.stat().st_size
    return Export(target, size, compared, quantised)


def prepared(out: str | Path) -> Path:
    """Refuse a file that could not be made or written, before there is anything to do."""
    target = Path(out)
    if target.suffix.lower() != ".onnx":
        raise InputError(f"An exported file's name must end in .onnx, got '{out}'.")
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(
            f"Export needs more packages ({error.name}). Run: pip install 'pyflux-transfer[export]'"
        ) from None
    check_writable(target)
    return target


def _compared(
    path: Path, network: Network, bundle: Bundle, named: list[tuple[str, Source]] | None,
    max_pixels: int,
) -> Comparison:  # fmt: skip
    from pyflux_transfer.export import running
    from pyflux_transfer.export.pictures import pictures

    how = bundle.preprocessing
    photos: Iterable[running.Photo] = pictures(how.crop, how.resize)
    if named is not None:
        photos = running.read(running.thinned(named, running.MOST), bundle, max_pixels)
    return running.compare(running.Exported(path), network, bundle, photos, max_pixels)


@contextmanager
def _beside(temporary: Path) -> Iterator[Path]:
    """Move what was written out of the way, for what replaces it."""
    exact = temporary.with_name(f"{temporary.name}.exact")
    temporary.rename(exact)
    temporary.touch()
    try:
        yield exact
    finally:
        exact.unlink(missing_ok=True)
