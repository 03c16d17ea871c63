from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pyflux_transfer.data.dataset import Skipped
from pyflux_transfer.errors import InputError, ServiceError
from pyflux_transfer.predict import Prediction
from pyflux_transfer.serving.client import predict
from tests.serving.conftest import Start
from tests.serving.harness import Service, colour, free_port, many_colours, truth, until


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, rgb in enumerate(many_colours(9)):
        (folder / f"{index}.png").write_bytes(colour(rgb))
    (folder / "5a.jpg").write_text("no image")
    return folder


def test_a_folder_is_answered_in_order_and_bad_files_are_skipped(
    shared: Service, photos: Path
) -> None:
    found = list(predict(shared.url, photos, top=2))
    names = sorted(str(path) for path in photos.iterdir())
    assert [str(f.path) if isinstance(f, Skipped) else f.name for f in found] == names
    skipped = [f for f in found if isinstance(f, Skipped)]
    assert [s.path for s in skipped] == [photos / "5a.jpg"]
    assert "not an image" in skipped[0].reason
    good = [f for f in found if isinstance(f, Prediction)]
    wanted = [truth(rgb) for rgb in many_colours(9)]
    assert [p.probability for p in good] == pytest.approx(wanted, abs=2e-6)
    assert all(len(p.top) == 2 for p in good)


def test_a_tables_files_and_images_in_memory_are_answered(shared: Service, photos: Path) -> None:
    (photos / "table.csv").write_text("path\n8.png\n2.png\n", "utf-8")
    found = list(predict(shared.url, photos / "table.csv"))
    colours = list(many_colours(9))
    assert [p.probability for p in found if isinstance(p, Prediction)] == pytest.approx(
        [truth(colours[8]), truth(colours[2])], abs=2e-6
    )
    held = [{"bytes": colour(colours[4]), "path": None}, {"bytes": b"none", "path": None}]
    answer, bad = predict(shared.url, held)  # type: ignore[arg-type]
    assert isinstance(answer, Prediction)
    assert answer.probability == pytest.approx(truth(colours[4]), abs=2e-6)
    assert isinstance(bad, Skipped)
    assert bad.path == Path("image 1")


def test_a_busy_service_is_asked_again(start: Start, photos: Path) -> None:
    service = start("--queue", "1", "--max-images", "1").wait()
    hold = service.hold()
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(lambda: list(predict(service.url, photos / "0.png")) * 1)
        until(lambda: service.metric("pyflux_transfer_queue_depth") == 1)
        second = ThreadPoolExecutor(1)
        waiting = second.submit(lambda: list(predict(service.url, photos / "1.png")))
        until(lambda: 'status="429"' in service.client.get("/metrics").text)
        hold.unlink()
        assert isinstance(running.result()[0], Prediction)
        assert isinstance(waiting.result()[0], Prediction)
        second.shutdown()


def test_what_stands_in_the_way_is_said(start: Start, photos: Path) -> None:
    with pytest.raises(ServiceError, match=r"cannot be reached .* Is the service running\?"):
        list(predict(f"http://127.0.0.1:{free_port()}", photos / "0.png"))
    with pytest.raises(ServiceError, match="cannot be reached"):
        list(predict("localhost", photos / "0.png"))
    with pytest.raises(InputError, match="No such file"):
        list(predict("http://127.0.0.1:1", photos / "missing.png"))
    service = start(PYFLUX_API_KEYS="secret").wait()
    with pytest.raises(ServiceError, match="answers 401: This needs an API key"):
        list(predict(service.url, photos / "0.png"))
    assert len(list(predict(service.url, photos / "0.png", key="secret"))) == 1


class Answers(BaseHTTPRequestHandler):
    """Answers as a service does that one file is too much for."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = next((code for code in (413, 500) if f"{code}.png".encode() in body), 200)
        row = {"name": "x", "label": "a", "top": [{"label": "a", "probability": 1.0}]}
        answer = json.dumps(
            {"predictions": [{**row, "probability": 1.0}]}
            if status == 200
            else {"error": {"code": "x", "message": "It is too much.", "hint": "Send less."}}
        ).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_file_that_fails_is_named_and_costs_no_other(tmp_path: Path) -> None:
    for name in ("1.png", "413.png", "500.png", "9.png"):
        (tmp_path / name).write_bytes(colour((9, 9, 9)))
    (tmp_path / "3.png").write_bytes(b"no image")
    given = sorted(tmp_path.iterdir())
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        found = list(predict(f"http://127.0.0.1:{server.server_port}", given))
        server.shutdown()
    skipped = [item for item in found if isinstance(item, Skipped)]
    assert [item.path.name for item in skipped] == ["3.png", "413.png", "500.png"]
    assert all(str(item.path) in item.reason for item in skipped)
    assert "answers 413: It is too much. Send less." in skipped[1].reason
    assert len(found) == 5
