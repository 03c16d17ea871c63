"""The head: what replaces the 1000-class classifier, and the units that come of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pyflux_transfer.errors import InputError, lookup
from pyflux_transfer.networks.blocks import avgpool, dense, dropout, flatten
from pyflux_transfer.networks.numbers import plain
from pyflux_transfer.networks.units import Unit, tensors

ACTIVATIONS = ("relu", "gelu", "tanh")


@dataclass(frozen=True)
class Head:
    """What replaces the 1000-class classifier.

    pool → flatten → [Dense → activation → Dropout]* → Dense(classes). `keep="hidden"` keeps the
    pretrained hidden Dense layers (VGG, AlexNet, MobileNetV3) and replaces the last;
    `keep="classifier"` keeps the whole classifier and adds one Dense behind it.
    """

    classes: int
    hidden: tuple[int, ...] = ()
    dropout: float = 0.0
    activation: str = "relu"
    keep: Literal["hidden", "classifier"] | None = None

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            object.__setattr__(self, name, plain(getattr(self, name)))
        if not isinstance(self.classes, int) or self.classes < 2:
            raise InputError(f"A head needs at least 2 classes, got {self.classes!r}.")
        if not all(isinstance(width, int) and width >= 1 for width in self.hidden):
            raise InputError(f"Hidden widths must be positive whole numbers, got {self.hidden}.")
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


def class_names(given: Iterable[object]) -> tuple[str, ...]:
    """Return names of classes as text that any file and answer can hold.

    Raises InputError for names that are equal or empty, for none, and for text that is no Unicode.
    """
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise InputError(f"classes must be a list of names, got {given!r}.")
    names = tuple(str(name) for name in given)
    if len(set(names)) != len(names):
        raise InputError(f"Class names must differ from each other, got {list(names)}.")
    for name in names:
        if not name.strip():
            raise InputError(f"Class names must not be empty, got {list(names)}.")
        try:
            name.encode()
        except UnicodeEncodeError:
            raise InputError(f"The class name {name!r} is no Unicode text. Rename it.") from None
    return names


def with_head(units: Sequence[Unit], head: Head) -> tuple[Unit, ...]:
    """Return the units of the same network with `head` in place of its classifier.

    A new Dense is named as one would name it in torchvision: `fc` where the classifier was `fc`,
    `classifier` where it was a Sequential; `fc.0`, `fc.3` … when there are hidden layers.
    """
    body = [unit for unit in units if unit.stage != "head"]
    old = [unit for unit in units if unit.stage == "head"]
    if head.keep == "classifier":
        width = int(old[-1].options.get("out", 1000))
        return (*body, *old, *_dropped("head", head), dense("head", width, head.classes))
    if head.keep == "hidden":
        return (*body, *_keep_hidden(old, head))
    last = next((unit for unit in reversed(old) if unit.layers), old[-1])
    root = last.name.split(".")[0]
    if any(name.startswith(f"{root}.") for name in tensors(body)):  # as ConvNeXt's `classifier.0`
        root = last.name
    if body[-1].options.get("ends") == 3:
        raise InputError(
            "This network's trunk gives tokens, which a new head cannot take. Use "
            "keep='classifier', or let the trunk end with their mean."
        )
    width = _width(body[-1], body)
    new = [] if _gives_vectors(body[-1]) else [avgpool(1), flatten()]
    for index, size in enumerate(head.hidden):
        new.append(dense(f"{root}.{3 * index}", width, size, head.activation))
        new.append(dropout(f"{root}.{3 * index + 2}", head.dropout))
        width = size
    if head.hidden:
        return (*body, *new, dense(f"{root}.{3 * len(head.hidden)}", width, head.classes))
    return (*body, *new, *_dropped(root, head), dense(root, width, head.classes))


def _gives_vectors(last: Unit) -> bool:
    return last.options.get("ends") == 2


def _dropped(name: str, head: Head) -> list[Unit]:
    return [dropout(f"{name}.dropout", head.dropout)] if head.dropout else []


def _keep_hidden(old: Sequence[Unit], head: Head) -> list[Unit]:
    hidden = [unit for unit in old if unit.kind == "dense"]
    if len(hidden) < 2:
        raise InputError(
            "keep='hidden' needs a classifier with hidden Dense layers (the VGG family, alexnet, "
            "the mobilenet_v3 family); this network has none. Use hidden=(256,) for new ones."
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
