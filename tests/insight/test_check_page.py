from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pyflux_transfer.data.tabular.contents import Held
from pyflux_transfer.insight import check_page
from pyflux_transfer.insight.decisions import Decision, apply, read_decisions
from pyflux_transfer.insight.findings import Findings
from tests.insight.conftest import HOSTILE


def test_the_page_asks_nobody_for_anything_and_escapes_names(found: Findings, folder: Path) -> None:
    text = check_page.page(found, folder, HOSTILE)
    assert "default-src 'none'" in text
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert "<img src=x" not in text
    assert "<script>alert" not in text
    assert "<b>damaged" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    assert text.count("data:image/jpeg;base64,") == 4


def test_photos_that_are_gone_have_no_picture(found: Findings, tmp_path: Path) -> None:
    text = check_page.page(found, tmp_path / "elsewhere", "photos")
    assert "data:image" not in text
    assert "no picture" in text


def test_images_that_are_no_files_have_pictures(found: Findings, folder: Path) -> None:
    held = Held((folder / found.photos[0].path).read_bytes())
    inside = replace(found.photos[0], path="images.parquet row 1", content=held)
    told = replace(found, photos=(inside, *found.photos[1:]))
    assert check_page.page(told, folder, "photos").count("data:image/jpeg;base64,") == 4
    assert json.dumps(told.to_json()).count("images.parquet row 1") == 1


def test_whole_sets_are_shown_as_far_as_there_is_room(
    found: Findings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_page, "SHOWN", 1)
    text = check_page.page(found, folder, "photos")
    assert text.count("The first 1 are shown; all are in the table.") == 2


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
    target = check_page.write_page(tmp_path / "check.html", found, folder, "photos")
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
    assert read_decisions(table) == {
        script: Decision("relabel", "red"),
        "blue/000.png": Decision("remove"),
    }
    _, removed, relabelled = apply(folder, table, tmp_path / "out.csv")
    assert (removed, relabelled) == (1, 1)
    pictures = page.eval_on_selector_all("img", "all => all.map(one => one.naturalWidth)")
    assert all(pictures)
    page.close()
    assert not faults
    assert [url for url in asked if not url.startswith("data:")] == [target.as_uri()]
