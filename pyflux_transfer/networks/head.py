"""The head: what replaces the 1000-class classifier, and the units that come of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pyflux_transfer.errors import InputError, lookup
from pyflux_transfer.networks.blocks import avgpool, dense, dropout, flatten
from pyflux_transfer.networks.units import Unit

ACTIVATIONS = ("relu", "gelu", "tanh")


@dataclass(frozen=True)
class Head:
    """What replaces the 1000-class classifier.

    pool → flatten → [Dense → activation → Dropout]* → Dense(classes). `keep="hidden"` keeps the
    pretrained hidden Dense layers (VGG, AlexNet) and replaces the last; `keep="classifier"` keeps
    the whole classifier and adds one Dense behind it.
    """

    classes: int
    hidden: tuple[int, ...] = ()
    dropout: float = 0.0
    activation: str = "relu"
    keep: Literal["hidden", "classifier"] | None = None

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise InputError(f"A head needs at least 2 classes, got {self.classes}.")
        if any(width < 1 for width in self.hidden):
            raise InputError(f"Hidden widths must be positive, got {self.hidden}.")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout must be in [0, 1), got {self.dropout}.")
        lookup(dict.fromkeys(ACTIVATIONS), self.activation, "activation")
        if self.keep not in (None, "hidden", "classifier"):
            raise InputError(f"keep must be None, 'hidden' or 'classifier', got {self.keep!r}.")
        if self.keep and self.hidden:
            raise InputError(
                f"keep={self.keep!r} keeps the network's own layers, so hidden={self.hidden} "
                "cannot be added. Leave one of them out."
            )


def with_head(units: Sequence[Unit], head: Head) -> tuple[Unit, ...]:
    """Return the units of the same network with `head` in place of its classifier.

    A new Dense is named as one would name it in torchvision: `fc` where the classifier was `fc`,
    `classifier` where it was a Sequential; `fc.0`, `fc.3` … when there are hidden layers.
    """
    body = [unit for unit in units if unit.stage != "head"]
    old = [unit for unit in units if unit.stage == "head"]
    if head.keep == "classifier":
        return (*body, *old, *_dropped("head", head), dense("head", 1000, head.classes))
    if head.keep == "hidden":
        return (*body, *_keep_hidden(old, head))
    last = next(unit for unit in reversed(old) if unit.layers)
    root = last.name.split(".")[0]
    width = _width(body[-1], body)
    new = [avgpool(1), flatten()]
    for index, size in enumerate(head.hidden):
        new.append(dense(f"{root}.{3 * index}", width, size, head.activation))
        new.append(dropout(f"{root}.{3 * index + 2}", head.dropout))
        width = size
    if head.hidden:
        return (*body, *new, dense(f"{root}.{3 * len(head.hidden)}", width, head.classes))
    return (*body, *new, *_dropped(root, head), dense(root, width, head.classes))


def _dropped(name: str, head: Head) -> list[Unit]:
    return [dropout(f"{name}.dropout", head.dropout)] if head.dropout else []


def _keep_hidden(old: Sequence[Unit], head: Head) -> list[Unit]:
    hidden = [unit for unit in old if unit.kind == "dense"]
    if len(hidden) < 2:
        raise InputError(
            "keep='hidden' needs a classifier with hidden Dense layers (the VGG family, alexnet); "
            "this network has none. Use hidden=(256,) for new ones."
        )
    last = hidden[-1]
    return [*old[:-1], dense(last.name, last.layers[0].shape[1], head.classes)]


def _width(last: Unit, body: Sequence[Unit]) -> int:
    """Channels that leave the body; pooling keeps those of the unit before it."""
    if last.kind == "fire":
        return 2 * int(last.options["expand"])
    if "out" in last.options:
        return int(last.options["out"])
    return _width(body[body.index(last) - 1], body)
