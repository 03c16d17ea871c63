"""What a shell is offered for an option's value: the names that the tables hold."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from pyflux_transfer.engines import ENGINES
from pyflux_transfer.engines.base import OPTIMIZERS
from pyflux_transfer.networks.catalog import MODELS, Architecture

Offers = list[tuple[str, str]]


def networks(incomplete: str) -> Offers:
    """Offer the architectures, each with its size."""
    rows = ((name, f"{row.parameters / 1e6:.1f} M parameters") for name, row in MODELS.items())
    return _starting(incomplete, rows)


def networks_or_auto(incomplete: str) -> Offers:
    """Offer the architectures, and `auto`, which compares them."""
    return [*_starting(incomplete, [("auto", "the best of a comparison")]), *networks(incomplete)]


def cuts(ctx: typer.Context, incomplete: str) -> Offers:
    """Offer the stages of the architecture that is named before, else of the usual one."""
    return _starting(incomplete, ((stage, "") for stage in _named(ctx).stages))


def tags(ctx: typer.Context, incomplete: str) -> Offers:
    """Offer the published weights of the architecture that is named before."""
    found = [(row.tag, f"{row.accuracy:.1f} % on ImageNet") for row in _named(ctx).weights]
    return _starting(incomplete, [("imagenet", "the usual"), *found, ("none", "a random start")])


def engines(incomplete: str) -> Offers:
    """Offer the engines."""
    rows = [("auto", "flux where Julia is set up, else torch"), *((name, "") for name in ENGINES)]
    return _starting(incomplete, rows)


def optimizers(incomplete: str) -> Offers:
    """Offer the optimizers."""
    return _starting(incomplete, ((name, "") for name in OPTIMIZERS))


def schedules(incomplete: str) -> Offers:
    """Offer the schedules of the learning rate."""
    from pyflux_transfer.training.schedule import SCHEDULES

    return _starting(incomplete, ((name, "") for name in SCHEDULES))


def _named(ctx: typer.Context) -> Architecture:
    return MODELS.get(str(ctx.params.get("arch")), MODELS["resnet50"])


def _starting(incomplete: str, rows: Iterable[tuple[str, str]]) -> Offers:
    return [(name, text) for name, text in rows if name.startswith(incomplete)]
