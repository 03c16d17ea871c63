from __future__ import annotations

import pytest

from pyflux_transfer.networks.catalog import MODELS
from pyflux_transfer.networks.listing import described, listing


def test_a_block_is_shown_with_its_layers_and_counts() -> None:
    units = MODELS["resnet18"].units[4:5]
    assert list(listing(units, 4, 0)) == [
        "stage2",
        "  4 layer2.0: basic(64 -> 128, stride=2)      230,144  trained",
        "      layer2.0.conv1: conv 128x64x3x3          73,728",
        "      layer2.0.bn1: norm 128                      256",
        "      layer2.0.conv2: conv 128x128x3x3        147,456",
        "      layer2.0.bn2: norm 128                      256",
        "      layer2.0.downsample.0: conv 128x64x1x1    8,192",
        "      layer2.0.downsample.1: norm 128             256",
    ]


@pytest.mark.parametrize("name", MODELS)
def test_every_network_is_shown_whole_in_ascii(name: str) -> None:
    units = MODELS[name].units
    lines = list(listing(units, 0, len(units) - 1))
    text = "\n".join(lines)
    assert text.isascii()
    assert max(map(len, lines)) < 120
    for unit in units:
        assert f" {unit.name}: {unit.kind}" in text
        assert all(f" {layer.name}: " in text for layer in unit.layers if layer.name != unit.name)


def test_units_are_described_by_their_numbers() -> None:
    shown = {unit.name: described(unit) for unit in MODELS["squeezenet1_1"].units}
    assert shown["features.0"] == "conv(3 -> 64, kernel=3, stride=2, activation=relu)"
    assert shown["features.3"] == "fire(in=64, squeeze=16, expand=64)"
    assert shown["flatten"] == "flatten"
