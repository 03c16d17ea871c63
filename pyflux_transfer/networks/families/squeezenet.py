"""SqueezeNet (Iandola et al. 2016)."""

from __future__ import annotations

from pyflux_transfer.networks.blocks import avgpool, conv, dropout, fire, flatten, maxpool
from pyflux_transfer.networks.units import Unit


def squeezenet1_1() -> tuple[Unit, ...]:
    """SqueezeNet 1.1; its classifier is a convolution followed by the mean over positions."""
    fires = {2: ((3, 64, 16, 64), (4, 128, 16, 64)), 3: ((6, 128, 32, 128), (7, 256, 32, 128))}
    units = [
        conv("features.0", "block1", 3, 64, 3, stride=2, bias=True),
        maxpool("features.2", "block1", 3, 2, ceil=True),
    ]
    for number, rows in fires.items():
        units += [fire(f"features.{i}", f"block{number}", n, s, e) for i, n, s, e in rows]
        units.append(maxpool(f"features.{rows[-1][0] + 1}", f"block{number}", 3, 2, ceil=True))
    last = ((9, 256, 48, 192), (10, 384, 48, 192), (11, 384, 64, 256), (12, 512, 64, 256))
    units += [fire(f"features.{i}", "block4", n, s, e) for i, n, s, e in last]
    return (
        *units,
        dropout("classifier.0", 0.5),
        conv("classifier.1", "head", 512, 1000, 1, bias=True),
        avgpool(1),
        flatten(),
    )
