"""The report: what it says, that it says it harmlessly, and that a browser shows it."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pyflux_transfer as pft
from pyflux_transfer import reporting
from pyflux_transfer.errors import InputError
from pyflux_transfer.judgement import COLUMNS, judge, write_rows
from pyflux_transfer.training.callbacks import Silent
from pyflux_transfer.training.options import Options
from tests import photos

pytestmark = pytest.mark.usefixtures("fake_engine")

HOSTILE = "<img src=x onerror=alert(1)>"
CLASSES = (HOSTILE, "green", "red")


@pytest.fixture
def model() -> pft.Classifier:
    return pft.load("tiny", weights=None, engine="fake").with_head(CLASSES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = photos.write(tmp_path / "photos", {"green": 5, "red": 4, "blue": 3})
    (place / "blue").rename(place / HOSTILE)
    first = next((place / "green").iterdir())
    first.rename(first.with_name("</script><script>alert(2)</script>.png".replace("/", "∕")))
    return place


def test_the_page_asks_nobody_for_anything_and_escapes_names(
    model: pft.Classifier, folder: Path, tmp_path: Path
) -> None:
    found = model.report(folder, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text("utf-8")
    assert found == model.evaluate(folder)
    assert f"{100 * found.accuracy:.1f} %" in text
    assert "default-src 'none'" in text
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert HOSTILE not in text
    assert "<script>alert" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    assert text.count("data:image/jpeg;base64,") > 12
    assert "flatter" not in text


def test_what_flatters_is_said(model: pft.Classifier, folder: Path) -> None:
    judged = judge(model, folder, Options(), Silent())
    assert "flatter" in reporting.page(model, judged, "photos", seen=True)


def test_pictures_stay_within_their_budget(
    model: pft.Classifier, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = judge(model, folder, Options(), Silent())
    whole = reporting.page(model, judged, "photos")
    monkeypatch.setattr(reporting, "BUDGET_BYTES", 0)
    assert len(reporting.page(model, judged, "photos")) < len(whole)


def test_photos_that_are_gone_have_no_picture(model: pft.Classifier, folder: Path) -> None:
    judged = judge(model, folder, Options(), Silent())
    shutil.rmtree(folder)
    text = reporting.page(model, judged, "photos")
    assert "data:image/jpeg" not in text
    assert "no picture" in text


def test_a_page_that_cannot_be_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.html"):
        reporting.prepared(tmp_path / "report.pdf")


def test_a_line_a_photo(model: pft.Classifier, folder: Path) -> None:
    file = io.StringIO()
    judged = judge(model, folder, Options(), Silent())
    write_rows(judged, file)
    rows = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 12
    right = sum(row["right"] == "yes" for row in rows)
    assert right / 12 == pytest.approx(model.evaluate(folder).accuracy)
    assert all((row["label"] == row["predicted"]) == (row["right"] == "yes") for row in rows)


def test_all_show_themselves_in_a_notebook(model: pft.Classifier, folder: Path) -> None:
    shown = [model, model.predict(folder)[0], model.evaluate(folder), model.explain(folder)[0],
             model.fit(folder)]  # fmt: skip
    for one in shown:
        text = one._repr_html_()  # type: ignore[attr-defined]
        assert text.startswith("<")
        assert HOSTILE not in text


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
def test_a_cell_is_opened_by_keyboard(
    browser: Any, model: pft.Classifier, folder: Path, tmp_path: Path, scheme: str
) -> None:
    target = tmp_path / "report.html"
    model.report(folder, target)
    faults: list[str] = []
    opened = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda message: faults.append(message.text))
    opened.on("requestfailed", lambda request: faults.append(request.url))
    opened.goto(target.as_uri())
    cell = opened.locator(".matrix button").first
    for _ in range(40):
        opened.keyboard.press("Tab")
        if cell.evaluate("node => node === document.activeElement"):
            break
    opened.keyboard.press("Enter")
    assert cell.get_attribute("aria-pressed") == "true"
    assert opened.locator("#cell img").count() == opened.locator("#cell li").count() > 0
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    opened.close()
    assert not faults
