"""AlexNet (Krizhevsky et al. 2012)."""

from __future__ import annotations

from pyflux_transfer.networks.blocks import avgpool, conv, dense, dropout, flatten, maxpool
from pyflux_transfer.networks.units import Unit


def alexnet() -> tuple[Unit, ...]:
    """AlexNet in the one-tower form (Krizhevsky 2014)."""
    return (
        conv("features.0", "block1", 3, 64, 11, stride=4, padding=2, bias=True),
        maxpool("features.2", "block1", 3, 2),
        conv("features.3", "block2", 64, 192, 5, padding=2, bias=True),
        maxpool("features.5", "block2", 3, 2),
        conv("features.6", "block3", 192, 384, 3, padding=1, bias=True),
        conv("features.8", "block4", 384, 256, 3, padding=1, bias=True),
        conv("features.10", "block5", 256, 256, 3, padding=1, bias=True),
        maxpool("features.12", "block5", 3, 2),
        avgpool(6),
        flatten(),
        dropout("classifier.0", 0.5),
        dense("classifier.1", 256 * 6 * 6, 4096, "relu"),
        dropout("classifier.3", 0.5),
        dense("classifier.4", 4096, 4096, "relu"),
        dense("classifier.6", 4096, 1000),
    )
