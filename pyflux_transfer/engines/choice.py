"""Which engine answers, where no training follows: `engine="auto"` of prediction and the service.

ONNX Runtime starts in a third of the time that PyTorch takes, and is the faster in float32. Where
the processor multiplies bfloat16 PyTorch computes photos faster, and many make up for its start.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyflux_transfer import engines
from pyflux_transfer.installation.environment import instructions, visible_gpus
from pyflux_transfer.networks.catalog import Architecture

MANY = 200  # photos that make up for PyTorch's start, where it computes in bfloat16
_BF16 = {"amx_bf16", "avx512_bf16"}


@dataclass(frozen=True)
class Asked:
    """What is to be answered: so many `photos`, None where nobody knows how many will come.

    `gradients` says that heat maps are wanted, and that this network's need gradients.
    """

    row: Architecture
    device: str = "auto"
    precision: str = "auto"
    photos: int | None = None
    gradients: bool = False


def choose(engine: str, asked: Asked) -> tuple[str, str]:
    """Return the engine to use and one line saying why; "auto" takes onnx where it pays."""
    if engine != "auto" or engines.missing("onnx"):
        return engines.choose(engine)
    if _quicker_in_bf16(asked):
        return "torch", "engine: torch (it computes many photos in bfloat16)"
    for reason in _against(asked):
        if reason:
            name, why = engines.choose("auto")
            return name, why if name == "onnx" else f"engine: {name} ({reason})"
    return "onnx", "engine: onnx (it starts and answers the quickest)"


def _against(asked: Asked) -> tuple[str | None, ...]:
    """Return what speaks against ONNX Runtime."""
    return (
        "its layers are Julia's" if asked.row.own else None,
        "for a GPU" if asked.device == "cuda" else None,
        "there is a GPU" if asked.device == "auto" and visible_gpus() else None,
        "for bfloat16" if asked.precision == "bf16" else None,
        "heat maps of this network need gradients" if asked.gradients else None,
    )


def _quicker_in_bf16(asked: Asked) -> bool:
    """Tell whether PyTorch in bfloat16 is done sooner, its start included."""
    many = asked.photos is None or asked.photos >= MANY
    able = asked.precision == "auto" and bool(_BF16 & set(instructions()))
    return many and able and not asked.row.own and engines.missing("torch") is None
