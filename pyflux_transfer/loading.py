"""From a name, a weights file or a bundle to a classifier."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pyflux_transfer import checkpoint, engines, predict
from pyflux_transfer import weights as files
from pyflux_transfer.catalog import architecture
from pyflux_transfer.checkpoint import Bundle
from pyflux_transfer.classifier import Classifier
from pyflux_transfer.engines.base import Plan, Precision, State
from pyflux_transfer.errors import WeightsError
from pyflux_transfer.units import resolve_cut

if TYPE_CHECKING:
    from typing import TypeGuard


def load(
    name: str | Path,
    *,
    weights: str | Path | None = "imagenet",
    engine: str = "auto",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Precision = "auto",
    seed: int = 0,
) -> Classifier:
    """Load a network by its architecture's name, or a trained bundle by its path.

    `weights` is "imagenet", a path to `.safetensors`, `.pth`, `.pt`, or None (also "none", as on
    the command line) for a random start from `seed`; a bundle, given as either, brings its own,
    its classes and head. `engine` is "auto", "flux" or "torch". `precision` of the frozen trunk and
    of prediction is "fp32", "bf16", or "auto": bf16 where the processor computes it and a check
    agrees. Raises InputError for an unknown architecture, WeightsError or BundleError for a file
    that does not fit, EngineError where none can start.
    """
    if Path(name).suffix == ".safetensors":
        return _from_bundle(checkpoint.read(name), engine, device, precision)
    row = architecture(str(name))
    if _is_bundle(weights):
        bundle = checkpoint.read(weights)
        if bundle.architecture != row.name:
            raise WeightsError(
                f"'{weights}' is a bundle of {bundle.architecture}, not of {row.name}. "
                f"Give it as the network itself: load('{weights}')."
            )
        return _from_bundle(bundle, engine, device, precision)
    chosen, why = engines.choose(engine)
    plan = Plan(row, None, seed, precision, device)
    if weights is None or weights == "none":
        network = engines.build(chosen, plan)
    else:
        network = engines.build(chosen, replace(plan, seed=None))
        network.load_state(_weights(chosen, plan, weights))
    network.cut_at(resolve_cut(network.units, "head"))
    classes = tuple(f"imagenet {i}" for i in range(1000))
    return Classifier(network, plan, classes, row.preprocessing, why)


def _is_bundle(weights: str | Path | None) -> TypeGuard[str | Path]:
    given = weights is not None and Path(weights).suffix == ".safetensors"
    return given and checkpoint.is_bundle(str(weights))


def _weights(engine: str, plan: Plan, given: str | Path) -> State:
    if given == "imagenet":
        return engines.pretrained(engine, plan.architecture.name)
    return files.for_plan(files.read(given), plan)


def _from_bundle(
    bundle: Bundle, engine: str, device: Literal["auto", "cpu", "cuda"], precision: Precision
) -> Classifier:
    chosen, why = engines.choose(engine)
    network = predict.restore(bundle, chosen, device, precision)
    plan = Plan(bundle.row, bundle.head, 0, precision, device)
    return Classifier(network, plan, bundle.classes, bundle.preprocessing, why, dict(bundle.info))
