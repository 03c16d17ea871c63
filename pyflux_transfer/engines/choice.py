"""Which engine answers, where no training follows: `engine="auto"` of prediction and the service.

ONNX Runtime starts in a third of the time that PyTorch takes, and is the faster in float32 with
nearly all networks. Where the processor multiplies bfloat16 PyTorch computes photos of most
networks faster, and many make up for its start.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyflux_transfer import engines
from pyflux_transfer.installation.environment import cores, instructions, visible_gpus

# How much there must be to do for PyTorch's start to pay, where it computes in bfloat16: products
# and sums of all photos, a processor. Measured: it starts 1.7 s later, and spares ResNet-50 15 ms
# of 38 a photo of 4.1e9 (benchmarks, "answers by ONNX Runtime").
MUCH = 5e11
# Families that ONNX Runtime in float32 computes as fast as PyTorch in bfloat16, to a tenth.
_AS_FAST = ("alexnet", "squeezenet", "mobilenet_v3", "efficientnet_b", "densenet")
_BF16 = {"amx_bf16", "avx512_bf16"}


@dataclass(frozen=True)
class Asked:
    """What an architecture is to answer: so many `photos`, None where nobody knows how many come.

    `mult_adds` are those of one photo. `gradients` says that heat maps are wanted, and that this
    network's need gradients.
    """

    architecture: str
    mult_adds: int
    device: str = "auto"
    precision: str = "auto"
    photos: int | None = None
    gradients: bool = False


def choose(asked: Asked) -> tuple[str, str]:
    """Return the engine that "auto" means for answers, and one line saying why."""
    if engines.missing("onnx"):
        return engines.choose("auto")
    for reason in filter(None, _against(asked)):
        name, why = engines.choose("auto")
        return name, why if name == "onnx" else f"engine: {name} ({reason})"
    if _quicker_in_bf16(asked):
        return "torch", "engine: torch (it computes many photos in bfloat16)"
    return "onnx", "engine: onnx (it starts and answers the quickest)"


def _against(asked: Asked) -> tuple[str | None, ...]:
    """Return what speaks against ONNX Runtime."""
    return (
        "for a GPU" if asked.device == "cuda" else None,
        "there is a GPU" if asked.device == "auto" and visible_gpus() else None,
        "for bfloat16" if asked.precision == "bf16" else None,
        "heat maps of this network need gradients" if asked.gradients else None,
    )


def emulated(precision: str, device: str) -> str | None:
    """Return one line where a processor of which that is known has no bfloat16 to compute in."""
    known = instructions()
    if precision != "bf16" or device != "cpu" or "avx512f" not in known or _BF16 & set(known):
        return None
    return (
        "precision='bf16' is emulated on this processor, which takes up to three times as long as "
        "float32. Use precision='auto', which measures, or 'fp32'."
    )


def _quicker_in_bf16(asked: Asked) -> bool:
    """Tell whether PyTorch in bfloat16 is done sooner, its start included."""
    many = asked.photos is None or asked.photos * asked.mult_adds >= MUCH * cores()
    able = asked.precision == "auto" and bool(_BF16 & set(instructions()))
    gains = not asked.architecture.startswith(_AS_FAST)
    return many and able and gains and engines.missing("torch") is None
