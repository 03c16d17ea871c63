"""From an architecture's name, weights or a bundle to a model, and from a model to a bundle."""

from __future__ import annotations

import contextlib
import platform
from dataclasses import replace
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from pyflux_transfer import bundle as bundles
from pyflux_transfer import engines, predict
from pyflux_transfer._version import __version__
from pyflux_transfer.bundle import Bundle
from pyflux_transfer.engines import files
from pyflux_transfer.engines.base import Device, Plan, Precision
from pyflux_transfer.errors import InputError, WeightsError
from pyflux_transfer.model import Model, refuse_headless
from pyflux_transfer.networks.catalog import Architecture, architecture, imagenet_classes
from pyflux_transfer.networks.outline import outline
from pyflux_transfer.networks.own import is_own
from pyflux_transfer.networks.preprocessing import IMAGENET, Fit, Preprocessing
from pyflux_transfer.networks.tensors import State
from pyflux_transfer.networks.units import resolve_cut
from pyflux_transfer.networks.weights.fit import fitted
from pyflux_transfer.networks.weights.table import Weights

if TYPE_CHECKING:
    from typing import TypeGuard


def load(
    name: str | Path,
    weights: str | Path | None,
    engine: str,
    device: Device,
    precision: Precision,
    seed: int,
    size: int | None = None,
    fit: Fit | None = None,
) -> Model:
    """Return a network by its architecture's name, or a trained bundle by its path.

    As `classifier.load` says. A network of one's own is tried on images of that size.
    """
    if Path(name).suffix == ".safetensors":
        return _from_bundle(bundles.read(name), engine, device, precision, size, fit)
    if is_own(str(name)):
        return _own(str(name), weights, engine, device, precision, size, fit)
    row = architecture(str(name))
    if _is_bundle(weights):
        bundle = bundles.read(weights)
        if bundle.architecture != row.name:
            raise WeightsError(
                f"'{weights}' is a bundle of {bundle.architecture}, not of {row.name}. "
                f"Give it as the network itself: load('{weights}')."
            )
        return _from_bundle(bundle, engine, device, precision, size, fit)
    published = _published(row, weights)
    preprocessing = published.preprocessing if published else row.preprocessing
    preprocessing = _sized(preprocessing, row, size, fit)  # before weights are downloaded
    chosen, why = engines.choose(engine)
    plan = Plan(row, None, seed, precision, device)
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
    info = {"weights": published.tag} if published else {}
    return Model(network, plan, imagenet_classes(), preprocessing, why, info, headless=headless)


def _own(
    name: str,
    weights: str | Path | None,
    engine: str,
    device: Device,
    precision: Precision,
    size: int | None,
    fit: Fit | None,
) -> Model:
    preprocessing = IMAGENET.sized(size, fit)
    chosen, why = engines.choose(engine)
    row, state = engines.own(chosen, name, preprocessing.crop)
    if weights not in ("imagenet", "none", None):
        if not Path(str(weights)).suffix:
            raise InputError(
                f"Weights {str(weights)!r} of {row.name} are not published. Leave weights out for "
                "what its constructor made, or give a file."
            )
        state = files.read(str(weights))
    plan = Plan(row, None, None, precision, device)
    network = engines.build(chosen, plan)
    network.load_state(state)
    network.cut_at(resolve_cut(network.units, "head"))
    known = imagenet_classes()
    names = known if row.classes == len(known) else tuple(map(str, range(row.classes)))
    return Model(network, plan, names, preprocessing, why)


def save(model: Model, path: str | Path) -> Path:
    """Write a model's bundle atomically and return its path."""
    if Path(path).suffix != ".safetensors":
        raise InputError(f"A bundle's name must end in .safetensors, got '{path}'.")
    return bundles.write(path, bundled(model))


def bundled(model: Model) -> Bundle:
    """Return a model as the bundle that would be saved. Raises InputError for one without head."""
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
            **_versions({"flux": "juliacall", "onnx": "onnxruntime"}.get(engine, engine)),
        },
    }
    return Bundle(
        model.plan.architecture.name, model.classes, model.plan.head, model.preprocessing,
        model.network.cut, model.network.state(), info, model.temperature, model.belonging,
        model.plan.architecture if model.plan.architecture.own else None,
    )  # fmt: skip


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


def _sized(
    preprocessing: Preprocessing, row: Architecture, size: int | None, fit: Fit | None
) -> Preprocessing:
    """Return the preprocessing at the size and fit that are asked for.

    Raises InputError for a size that the network cannot take.
    """
    if size is None and fit is None:
        return preprocessing
    found = preprocessing.sized(size, fit)
    if not row.own:  # which its own layers refuse
        outline(row.name, row.units, 0, (1, 3, found.crop, found.crop), 0)
    return found


def _from_bundle(
    bundle: Bundle,
    engine: str,
    device: Device,
    precision: Precision,
    size: int | None,
    fit: Fit | None,
) -> Model:
    preprocessing = _sized(bundle.preprocessing, bundle.row, size, fit)
    chosen, why = engines.choose(engine)
    network = predict.restore(bundle, chosen, device, precision)
    plan = Plan(bundle.row, bundle.head, 0, precision, device)
    return Model(
        network, plan, bundle.classes, preprocessing, why, dict(bundle.info),
        bundle.temperature, bundle.belonging,
    )  # fmt: skip


def _versions(package: str) -> dict[str, str]:
    """Return the installed version of a package; an engine need not come in one."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return {package: metadata.version(package)}
    return {}
