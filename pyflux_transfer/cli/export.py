"""`pyflux-transfer export`: a bundle as an ONNX file, compared with the bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pyflux_transfer.cli import options
from pyflux_transfer.cli.options import MAX_PIXELS, BundleArgument, EngineOption, MaxPixels
from pyflux_transfer.errors import InputError
from pyflux_transfer.insight.tables import console

if TYPE_CHECKING:
    from pyflux_transfer.export.int8 import Quantised
    from pyflux_transfer.export.running import Comparison


def register(app: typer.Typer) -> None:
    """Add `export` to a command line."""
    app.command()(export)


def export(
    bundle: BundleArgument,
    out: Annotated[Path, typer.Option(help="File to write (.onnx).")] = Path("model.onnx"),
    input: Annotated[
        Literal["image", "tensor"],
        typer.Option(help="image: one photo of any size; tensor: prepared batches."),
    ] = "image",
    compare: Annotated[
        Path | None, typer.Option(help="Photos to compare the answers on; else made pictures.")
    ] = None,
    int8: Annotated[
        Path | None, typer.Option(help="Quantise to 8 bits, calibrated and judged on these photos.")
    ] = None,
    max_loss: Annotated[
        float,
        typer.Option(help="Share of accuracy (without labels: agreement) that 8 bits may lose."),
    ] = 0.01,
    check: Annotated[
        bool, typer.Option(help="Compare with the engine; --no-check needs no engine.")
    ] = True,
    max_pixels: MaxPixels = MAX_PIXELS,
    engine: EngineOption = "auto",
) -> None:
    """Write an ONNX file that answers as a bundle does, and tell how near."""
    from pyflux_transfer import bundle as bundles
    from pyflux_transfer.export import writing

    if compare and not check:
        raise InputError("--compare needs the check. Leave one of --compare and --no-check out.")
    writing.prepared(out)
    found = writing.export(
        bundles.read(options.bundle_path(bundle)), out, input=input, compare=compare, int8=int8,
        max_loss=max_loss, check=check, engine=engine, max_pixels=max_pixels,
    )  # fmt: skip
    lines = [] if found.compared is None else _compared(found.compared)
    lines += [] if found.quantised is None else _quantised(found.quantised)
    lines.append(f"written {out}, {found.bytes / 2**20:.1f} MiB")
    for line in lines:
        console.print(line, soft_wrap=True)


def _compared(found: Comparison) -> list[str]:
    lines = [f"{found.photos} photos: the largest difference of a probability is "
             f"{found.difference:.2g}"]  # fmt: skip
    if found.from_files is not None:
        lines.append(
            "beside `predict` on the files, which reads large JPEGs smaller: "
            f"{found.from_files:.2g}"
        )
    lines.append(
        f"one photo takes {1000 * found.theirs_s:.1f} ms in ONNX Runtime, "
        f"{1000 * found.ours_s:.1f} ms here"
    )
    return lines


def _quantised(found: Quantised) -> list[str]:
    told = f"the same answer for {found.agreement:.1%}"
    if found.before is not None and found.after is not None:
        told = f"accuracy {found.before:.1%} before, {found.after:.1%} after, {told}"
    return [
        f"8 bits, calibrated on {found.calibrated} photos, on {found.judged} others: {told}",
        f"one photo takes {1000 * found.before_s:.1f} ms before, {1000 * found.after_s:.1f} ms "
        "after",
    ]
