from __future__ import annotations

import io

import pytest
from rich.console import Console

from pyflux_transfer.engines.base import Plan
from pyflux_transfer.errors import InputError
from pyflux_transfer.insight.summary import COLUMNS, USUAL, show_summary
from pyflux_transfer.networks.catalog import MODELS
from pyflux_transfer.networks.head import Head
from pyflux_transfer.networks.outline import Row, outline


def rows(cut: int = 9, depth: int = 2, batch: int = 1) -> list[Row]:
    units = Plan(MODELS["resnet18"], Head(23)).units
    return outline("resnet18", units, cut, (batch, 3, 224, 224), depth)


def shown(found: list[Row], *columns: str, terminal: bool = False, batch: bool = False) -> str:
    out = Console(file=io.StringIO(), width=200, force_terminal=terminal, color_system=None)
    show_summary(found, 9, columns or USUAL, batch=batch, out=out)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_units_with_their_numbers_and_the_totals() -> None:
    lines = shown(rows()).splitlines()
    cells = [line.split() for line in lines]
    assert ["9", "layer4.1", "basic", "512x7x7", "512x7x7", "4,720,640", "True"] in cells
    assert ["10", "avgpool", "avgpool", "512x7x7", "512x1x1", "0", "--"] in cells
    assert ["stage4", "256x14x14", "512x7x7", "8,393,728", "Partial"] in cells
    assert lines[-2] == (
        "11,188,311 parameters, 4,732,439 of them trained from the cut at 9; "
        "9,600 BatchNorm statistics"
    )
    assert lines[-1] == (
        "1 image: 1.81 G mult-adds; input 0.6 MB, parameters 44.8 MB, outputs of the layers 19.9 MB"
    )


def test_it_is_ascii_but_on_a_terminal() -> None:
    assert shown(rows(depth=3), *COLUMNS).isascii()
    assert "3×224×224" in shown(rows(), terminal=True)
    old = Console(file=io.TextIOWrapper(io.BytesIO(), "ascii"), force_terminal=True, width=200)
    show_summary(rows(), 9, out=old)


def test_columns_are_chosen_in_any_order() -> None:
    text = shown(rows(depth=3, batch=32), "share", "weight", "mult-adds", batch=True)
    cells = [line.split() for line in text.splitlines()]
    assert cells[0] == ["#", "layer", "share", "weight", "mult-adds"]
    assert ["layer4.1.conv1", "21.1%", "512x512x3x3", "3.70", "G"] in cells
    assert "32 images: 58.03 G" in text
    with pytest.raises(InputError, match="Unknown column 'output_size'"):
        shown(rows(), "output_size")


def test_cells_of_what_is_not_known_are_blank() -> None:
    found = rows(depth=0)
    unknown = [Row(**{**vars(found[0]), "mult_adds": None, "output_bytes": None})]
    text = shown(unknown, "mult-adds", "statistics")
    assert text.splitlines()[-1] == "1 image: input 0.6 MB, parameters 44.8 MB"
