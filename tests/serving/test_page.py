"""The page, in a headless Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.serving.conftest import Start
from tests.serving.harness import Service, colour, picture

DROP = """([bytes, name, type]) => {
  const carrier = new DataTransfer();
  carrier.items.add(new File([new Uint8Array(bytes)], name, {type}));
  document.dispatchEvent(new DragEvent("drop", {dataTransfer: carrier, cancelable: true}));
}"""
PASTE = DROP.replace('DragEvent("drop", {dataTransfer', 'ClipboardEvent("paste", {clipboardData')


def test_the_page_asks_no_other_host_for_anything(shared: Service) -> None:
    answer = shared.client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "://" not in answer.text
    assert "innerHTML" not in answer.text


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with playwright.sync_playwright() as tool:
        running = tool.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def page(browser: Any, shared: Service) -> Iterator[Any]:
    """The page; a script error or a blocked request fails the test."""
    faults: list[str] = []
    opened = browser.new_page(viewport={"width": 900, "height": 760})
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("requestfailed", lambda request: faults.append(request.url))
    opened.goto(shared.url)
    yield opened
    opened.close()
    assert not faults


def scenery() -> bytes:
    """Return a photo-like picture, mostly blue."""
    rows, columns = np.mgrid[0:240, 0:320]
    sky = np.stack([60 + rows / 3, 120 + rows / 4, 235 - rows / 8], axis=2)
    hill = rows > 150 + 25 * np.sin(columns / 40)
    return picture(np.where(hill[..., None], (70, 110, 60), sky).astype(np.uint8), "JPEG")


@pytest.mark.browser
def test_drop_a_photo_and_read_its_label(page: Any, shared: Service) -> None:
    page.locator("#model", has_text="3 classes").wait_for()
    photo = scenery()
    page.evaluate(DROP, [list(photo), "hills.jpg", "image/jpeg"])
    page.wait_for_selector("dl")
    found = shared.predict(photo).json()["predictions"][0]
    assert page.text_content(".label") == found["label"]
    assert page.text_content("dt") == found["label"]
    assert page.text_content(".share") == f"{100 * found['probability']:.1f} %"
    assert page.text_content(".name") == "hills.jpg"
    wide = page.eval_on_selector_all(".bar", "bars => bars.map(bar => bar.offsetWidth)")
    assert wide == sorted(wide, reverse=True)
    assert wide[0] > 0
    page.evaluate(PASTE, [list(colour((220, 60, 50))), "red <b>.png", "image/png"])
    page.locator("dl").nth(1).wait_for()
    assert page.text_content(".name") == "red <b>.png"
    page.evaluate(DROP, [list(b"no image"), "notes.txt", "text/plain"])
    page.wait_for_selector(".fault")
    folder = Path(os.environ.get("TEST_ARTEFACTS", "build/screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / "page.png", full_page=True)


@pytest.mark.browser
def test_an_error_is_shown_as_one(page: Any) -> None:
    page.set_input_files(
        "#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no image"}
    )
    page.wait_for_selector(".fault")
    assert "not an image" in page.text_content(".fault")
    assert page.text_content(".hint")
    assert page.query_selector("dl") is None


@pytest.mark.browser
def test_the_key_is_asked_for_and_used(browser: Any, start: Start) -> None:
    service = start(PYFLUX_API_KEYS="letmein")
    service.wait()
    opened = browser.new_page()
    opened.goto(service.url)
    opened.wait_for_selector("#key", state="visible")
    opened.fill("#key", "letmein")
    opened.press("#key", "Enter")
    opened.wait_for_selector("#access", state="hidden")
    opened.evaluate(DROP, [list(colour((20, 200, 40))), "leaf.png", "image/png"])
    opened.wait_for_selector("dl")
    assert opened.text_content(".label") == "green"
    opened.close()
    assert httpx.get(f"{service.url}/model").status_code == 401


@pytest.mark.browser
def test_heat_maps_and_what_is_unsure_by_keyboard(
    browser: Any, start: Start, tmp_path: Path
) -> None:
    service = start(bundle={"belonging": {"threshold": 0.4, "kept": 0.95, "photos": 40}}).wait()
    faults: list[str] = []
    page = browser.new_page(viewport={"width": 900, "height": 760})
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text))
    page.on("requestfailed", lambda request: faults.append(request.url))
    page.on("filechooser", lambda _: None)  # from now on: a dialog could else open before
    page.goto(service.url)
    page.locator("#model", has_text="3 classes").wait_for()
    for name, rgb in (("red", (220, 60, 50)), ("grey", (120, 110, 110))):
        (tmp_path / f"{name}.png").write_bytes(colour(rgb, size=64))

    def focused() -> str:
        page.keyboard.press("Tab")
        return str(page.evaluate("document.activeElement.id"))

    def choose(name: str) -> None:
        with page.expect_file_chooser() as waiting:
            page.keyboard.press("Enter")
        waiting.value.set_files(tmp_path / f"{name}.png")
        page.locator("li", has_text=name).locator("dl").wait_for()

    assert focused() == "file"
    choose("red")
    first = page.locator("li", has_text="red.png")
    assert first.locator(".unsure").count() == 0
    assert first.locator("img").get_attribute("alt") == ""
    assert focused() == "explain"
    page.keyboard.press("Space")
    assert page.get_by_label("Show what in the photo speaks for the answer").is_checked()
    page.keyboard.press("Shift+Tab")
    choose("grey")
    second = page.locator("li", has_text="grey.png")
    assert second.locator(".unsure").text_content() == (
        "Unsure: unlike the photos that were learnt (belonging 0.04)"
    )
    heat = second.get_by_role("img", name="What in the photo speaks for red")
    assert str(heat.get_attribute("src")).startswith("data:image/png;base64,")
    assert heat.evaluate("image => image.complete && image.naturalWidth") == 8
    folder = Path(os.environ.get("TEST_ARTEFACTS", "build/screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / "page-unsure.png", full_page=True)
    page.close()
    assert not faults
