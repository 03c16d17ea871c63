from __future__ import annotations

import csv
from pathlib import Path

from pyflux_transfer.data.listing import list_source
from pyflux_transfer.insight.check_tables import write_findings, write_groups
from pyflux_transfer.insight.decisions import read_decisions
from pyflux_transfer.insight.findings import Findings
from tests.insight.conftest import HOSTILE


def test_the_table_has_a_line_a_finding(found: Findings, tmp_path: Path) -> None:
    table = write_findings(tmp_path / "check.csv", found)
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["finding"] for row in rows] == ["unreadable", "label", "label", "copy", "copy"]
    assert rows[1]["path"] == found.photos[found.of("label")[0].photo].path
    assert (rows[1]["label"], rows[1]["new_label"]) == (HOSTILE, "red")
    assert (rows[1]["decision"], rows[1]["probability"], rows[3]["set"]) == ("", "0.9700", "1")
    assert read_decisions(table) == {}


def test_groups_are_written_as_training_reads_them(
    found: Findings, folder: Path, tmp_path: Path
) -> None:
    table = write_groups(tmp_path / "groups.csv", found, folder)
    entries = list_source(table).parts["train"]
    assert len(entries) == 7  # without the unreadable one
    assert {entry.group for entry in entries} == set(found.groups[:-1])
