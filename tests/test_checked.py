from __future__ import annotations

import csv
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyflux_transfer import checked
from pyflux_transfer.data.listing import list_source
from pyflux_transfer.errors import DataError, InputError
from pyflux_transfer.insight import findings as kinds
from pyflux_transfer.insight.findings import Finding, Findings, Photo
from tests import photos

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = photos.write(tmp_path / "photos", {"blue": 3, "red": 3})
    name = "blue/<script>alert(1)<￿script>, \"'.png".replace("￿", "\u2215")
    shutil.copy(place / "blue" / "000.png", place / name)
    return place


@pytest.fixture
def found(folder: Path) -> Findings:
    files = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.png"))]
    some = tuple(
        Photo(path, "train", HOSTILE if "script" in path else path.split("/")[0], 16, 16)
        for path in files
    )
    script = next(i for i, path in enumerate(files) if "script" in path)
    told = (
        Finding("unreadable", len(some), 1.0, "it is <b>damaged</b>"),
        Finding("label", script, 4.0, "red 97 %", "red", 0.97),
        Finding("label", 0, 2.0, "red 60 %", "red", 0.6),
        Finding("copy", 0, 0.9, f"the same picture as {files[1]}", set=0),
        Finding("copy", 1, 0.9, f"the same picture as {files[0]}", set=0),
    )
    broken = Photo("red/broken.jpg", "train", "")
    names = ("blue", "red", HOSTILE)
    return Findings(names, (*some, broken), told, (*files, broken.path), (0.9, 0.02), ("a <note>",))


# --- the table ------------------------------------------------------------------------------------


def test_the_table_has_a_line_a_finding(found: Findings, tmp_path: Path) -> None:
    table = checked.write_findings(tmp_path / "check.csv", found)
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["finding"] for row in rows] == ["unreadable", "label", "label", "copy", "copy"]
    assert rows[1]["path"] == found.photos[found.of("label")[0].photo].path
    assert (rows[1]["label"], rows[1]["new_label"]) == (HOSTILE, "red")
    assert (rows[1]["decision"], rows[1]["probability"], rows[3]["set"]) == ("", "0.9700", "1")
    assert checked.read_decisions(table) == {}


def test_groups_are_written_as_training_reads_them(
    found: Findings, folder: Path, tmp_path: Path
) -> None:
    table = checked.write_groups(tmp_path / "groups.csv", found, folder)
    entries = list_source(table).parts["train"]
    assert len(entries) == 7  # without the unreadable one
    assert {entry.group for entry in entries} == set(found.groups[:-1])


# --- decisions ------------------------------------------------------------------------------------


def decide(folder: Path, *lines: str) -> Path:
    table = folder.parent / "decisions.csv"
    table.write_text("\n".join(["path,decision,new_label", *lines]), "utf-8")
    return table


def test_decisions_make_a_new_table_and_touch_no_photo(folder: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    table = decide(folder, "blue/000.png,relabel,red", "red/001.png,Remove,", "red/002.png,keep,x")
    target, removed, relabelled = checked.apply(folder, table, tmp_path / "new" / "all.csv")
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
    target, _, _ = checked.apply(data, table, tmp_path / "out.csv")
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
        checked.apply(folder, decide(folder, *lines), tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_tables_that_are_none_are_refused(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "x.csv"
    with pytest.raises(DataError, match="cannot be read"):
        checked.read_decisions(table)
    table.write_text("path,what\n")
    with pytest.raises(DataError, match="lacks the column 'decision'"):
        checked.read_decisions(table)
    table.write_bytes(b"path,decision\n\xff,keep\n")
    with pytest.raises(DataError, match="UTF-8"):
        checked.read_decisions(table)
    everything = [f"{p.parent.name}/{p.name},remove," for p in folder.glob("red/*.png")]
    (folder / "some.csv").write_text("path,label\nred/000.png,red\n")
    with pytest.raises(DataError, match="no photo of"):
        checked.apply(folder / "some.csv", decide(folder, *everything), tmp_path / "out.csv")
    table = decide(folder, "red/000.png,remove,")
    with pytest.raises(InputError, match="All photos would be removed"):
        checked.apply(folder / "some.csv", table, tmp_path / "out.csv")


# --- the page -------------------------------------------------------------------------------------


def test_the_page_asks_nobody_for_anything_and_escapes_names(found: Findings, folder: Path) -> None:
    text = checked.page(found, folder, HOSTILE)
    assert "default-src 'none'" in text
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert "<img src=x" not in text
    assert "<script>alert" not in text
    assert "<b>damaged" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    assert text.count("data:image/jpeg;base64,") == 4


def test_photos_that_are_gone_have_no_picture(found: Findings, tmp_path: Path) -> None:
    text = checked.page(found, tmp_path / "elsewhere", "photos")
    assert "data:image" not in text
    assert "no picture" in text


def test_whole_sets_are_shown_as_far_as_there_is_room(
    found: Findings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checked, "SHOWN", 1)
    text = checked.page(found, folder, "photos")
    assert text.count("The first 1 are shown; all are in the table.") == 2


def test_every_kind_says_what_it_means_and_what_to_do() -> None:
    for row in kinds.KINDS.values():
        assert all(row.__dict__.values())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with playwright.sync_playwright() as tool:
        running = tool.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_decisions_are_made_by_keyboard_and_downloaded(
    browser: Any, found: Findings, folder: Path, tmp_path: Path, scheme: str
) -> None:
    target = checked.write_page(tmp_path / "check.html", found, folder, "photos")
    faults: list[str] = []
    asked: list[str] = []
    page = browser.new_page(color_scheme=scheme)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(target.as_uri())
    assert page.title() == "Photos of photos"
    assert page.get_by_role("heading", name="Probable label errors").is_visible()
    assert page.get_by_role("button", name="Download decisions.csv").is_disabled()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to what to do first"
    while page.evaluate("document.activeElement.tagName") != "SELECT":
        page.keyboard.press("Tab")
    page.keyboard.type("is red")
    page.keyboard.press("Tab")
    page.keyboard.type("remove")
    assert page.text_content("#status") == "2 photos decided."
    assert page.locator(".card.decided").count() == 3  # one of them stands in two places
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download decisions.csv").press("Enter")
    table = tmp_path / "decisions.csv"
    waiting.value.save_as(table)
    script = found.photos[found.of("label")[0].photo].path
    assert checked.read_decisions(table) == {
        script: checked.Decision("relabel", "red"),
        "blue/000.png": checked.Decision("remove"),
    }
    _, removed, relabelled = checked.apply(folder, table, tmp_path / "out.csv")
    assert (removed, relabelled) == (1, 1)
    pictures = page.eval_on_selector_all("img", "all => all.map(one => one.naturalWidth)")
    assert all(pictures)
    page.close()
    assert not faults
    assert [url for url in asked if not url.startswith("data:")] == [target.as_uri()]
