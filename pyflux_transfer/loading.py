"""From an architecture's name, weights or a bundle to a model, and from a model to a bundle."""

from __future__ import annotations

import contextlib
import platform
from dataclasses import replace
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pyflux_transfer import bundle as bundles
from pyflux_transfer import engines, predict
from pyflux_transfer._version import __version__
from pyflux_transfer.bundle import Bundle
from pyflux_transfer.engines import files
from pyflux_transfer.engines.base import Plan, Precision
from pyflux_transfer.errors import InputError, WeightsError
from pyflux_transfer.model import Model, refuse_headless
from pyflux_transfer.networks.catalog import Architecture, architecture, imagenet_classes
from pyflux_transfer.networks.tensors import State
from pyflux_transfer.networks.units import resolve_cut
from pyflux_transfer.networks.weights.fit import fitted
from pyflux_transfer.networks.weights.table import Weights

if TYPE_CHECKING:
    from typing import TypeGuard

Device = Literal["auto", "cpu", "cuda"]


def load(
    name: str | Path,
    weights: str | Path | None,
    engine: str,
    device: Device,
    precision: Precision,
    seed: int,
) -> Model:
    """Return a network by its architecture's name, or a trained bundle by its path.

    As `classifier.load` says.
    """
    if Path(name).suffix == ".safetensors":
        return _from_bundle(bundles.read(name), engine, device, precision)
    row = architecture(str(name))
    if _is_bundle(weights):
        bundle = bundles.read(weights)
        if bundle.architecture != row.name:
            raise WeightsError(
                f"'{weights}' is a bundle of {bundle.architecture}, not of {row.name}. "
                f"Give it as the network itself: load('{weights}')."
            )
        return _from_bundle(bundle, engine, device, precision)
    chosen, why = engines.choose(engine)
    plan = Plan(row, None, seed, precision, device)
    published = _published(row, weights)
    headless = False
    if weights is None or weights == "none":
        network = engines.build(chosen, plan)
    else:
        network = engines.build(chosen, replace(plan, seed=None))
        if published:
            state = engines.pretrained(chosen, row, published.tag)
            state, headless = fitted(state, plan.units, plan.seed or 0)
        else:
            state, headless = _given(plan, weights)
        network.load_state(state)
    if headless and published:
        why += "; these weights come without a head"
    elif headless:
        why += "; the weights' own head does not fit and was left out"
    network.cut_at(resolve_cut(network.units, "head"))
    preprocessing = published.preprocessing if published else row.preprocessing
    info = {"weights": published.tag} if published else {}
    return Model(network, plan, imagenet_classes(), preprocessing, why, info, headless=headless)


def save(model: Model, path: str | Path) -> Path:
    """Write a model's bundle atomically and return its path."""
    if Path(path).suffix != ".safetensors":
        raise InputError(f"A bundle's name must end in .safetensors, got '{path}'.")
    refuse_headless(model)
    engine = model.network.engine
    info = {
        **model.info,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "engine": engine,
        "precision": model.network.precision,
        "versions": {
            "pyflux-transfer": __version__,
            "python": platform.python_version(),
            **_versions({"flux": "juliacall"}.get(engine, engine)),
        },
    }
    bundle = Bundle(
        model.plan.architecture.name, model.classes, model.plan.head, model.preprocessing,
        model.network.cut, model.network.state(), info, model.temperature, model.belonging,
    )  # fmt: skip
    return bundles.write(path, bundle)


def _is_bundle(weights: str | Path | None) -> TypeGuard[str | Path]:
    given = weights is not None and Path(weights).suffix == ".safetensors"
    return given and bundles.is_bundle(str(weights))


def _published(row: Architecture, given: str | Path | None) -> Weights | None:
    """Return the published weights that are meant; None for a file, a random start and the rest."""
    known = given == "imagenet" or given in [weights.tag for weights in row.weights]
    return row.tagged(str(given)) if known else None


def _given(plan: Plan, given: str | Path) -> tuple[State, bool]:
    """Return the weights of a file, and whether their head begins at random."""
    row = plan.architecture
    if not Path(given).suffix:
        tags = ", ".join(weights.tag for weights in row.weights)
        raise InputError(
            f"Unknown weights {str(given)!r} of {row.name}. Give imagenet, a published tag "
            f"({tags}), a file, or none."
        )
    return fitted(files.read(given), plan.units, plan.seed or 0)


def _from_bundle(bundle: Bundle, engine: str, device: Device, precision: Precision) -> Model:
    chosen, why = engines.choose(engine)
    network = predict.restore(bundle, chosen, device, precision)
    plan = Plan(bundle.row, bundle.head, 0, precision, device)
    return Model(
        network, plan, bundle.classes, bundle.preprocessing, why, dict(bundle.info),
        bundle.temperature, bundle.belonging,
    )  # fmt: skip


def _versions(package: str) -> dict[str, str]:
    """Return the installed version of a package; an engine need not come in one."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return {package: metadata.version(package)}
    return {}
