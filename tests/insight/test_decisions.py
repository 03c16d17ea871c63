from __future__ import annotations

from pathlib import Path

import pytest

from pyflux_transfer.data.listing import list_source
from pyflux_transfer.errors import DataError, InputError
from pyflux_transfer.insight.decisions import apply, read_decisions


def decide(folder: Path, *lines: str) -> Path:
    table = folder.parent / "decisions.csv"
    table.write_text("\n".join(["path,decision,new_label", *lines]), "utf-8")
    return table


def test_decisions_make_a_new_table_and_touch_no_photo(folder: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    table = decide(folder, "blue/000.png,relabel,red", "red/001.png,Remove,", "red/002.png,keep,x")
    target, removed, relabelled = apply(folder, table, tmp_path / "new" / "all.csv")
    assert (removed, relabelled) == (1, 1)
    entries = list_source(target).parts["train"]
    told = {entry.path.resolve().relative_to(folder).as_posix(): entry.name for entry in entries}
    assert told["blue/000.png"] == "red"
    assert told["red/002.png"] == "red"
    assert "red/001.png" not in told
    assert len(told) == 6
    assert {path: path.read_bytes() for path in folder.rglob("*.png")} == before


def test_splits_and_groups_of_a_table_are_kept(folder: Path, tmp_path: Path) -> None:
    data = folder / "data.csv"
    data.write_text(
        "path,label,split,group\nblue/000.png,blue,train,a\nred/000.png,red,test,b\n"
        "red/001.png,red,train,a\n"
    )
    table = decide(folder, "red/001.png,relabel,blue")
    target, _, _ = apply(data, table, tmp_path / "out.csv")
    found = list_source(target).parts
    assert [(e.name, e.group) for e in found["train"]] == [("blue", "a"), ("blue", "a")]
    assert [(e.name, e.group) for e in found["test"]] == [("red", "b")]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["blue/000.png,delete,"], r"line 2: decision must be keep, remove, relabel .* 'delete'"),
        (["blue/000.png,relabel,"], "relabel needs the new label"),
        (["blue/000.png,keep,", "blue/000.png,remove,"], r"'blue/000.png' twice, and not alike"),
        (["blue/009.png,remove,"], r"'blue/009.png', which is no photo of"),
    ],
)
def test_decisions_that_cannot_be_meant_are_refused(
    folder: Path, tmp_path: Path, lines: list[str], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        apply(folder, decide(folder, *lines), tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_tables_that_are_none_are_refused(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "x.csv"
    with pytest.raises(DataError, match="cannot be read"):
        read_decisions(table)
    table.write_text("path,what\n")
    with pytest.raises(DataError, match="lacks the column 'decision'"):
        read_decisions(table)
    table.write_bytes(b"path,decision\n\xff,keep\n")
    with pytest.raises(DataError, match="UTF-8"):
        read_decisions(table)
    everything = [f"{p.parent.name}/{p.name},remove," for p in folder.glob("red/*.png")]
    (folder / "some.csv").write_text("path,label\nred/000.png,red\n")
    with pytest.raises(DataError, match="no photo of"):
        apply(folder / "some.csv", decide(folder, *everything), tmp_path / "out.csv")
    table = decide(folder, "red/000.png,remove,")
    with pytest.raises(InputError, match="All photos would be removed"):
        apply(folder / "some.csv", table, tmp_path / "out.csv")
