"""One running service: what it answers, and what it refuses."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.serving.conftest import Start
from tests.serving.harness import Service, base64_json, colour, many_colours, picture, truth, until

RED = colour((200, 50, 50))
NOISE = picture(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
IMAGE = {"content-type": "image/png"}
CHUNKED = "Content-Type: image/png\nTransfer-Encoding: chunked\n\n"
POST = "POST /predict HTTP/1.1\nHost: x\n"
PIECE = b"10000\r\n" + bytes(65536) + b"\r\n"


@pytest.fixture(autouse=True)
def unharmed(shared: Service) -> Iterator[None]:
    """Whatever a test sends, the next good request is answered by the same worker."""
    before = [worker.pid for worker in shared.workers()]
    yield
    answer = shared.predict(RED)
    assert answer.status_code == 200, answer.text
    assert [worker.pid for worker in shared.workers()] == before


def error(answer: httpx.Response) -> dict[str, str]:
    body = answer.json()
    assert set(body) == {"error"}
    assert {"code", "message", "hint"} <= set(body["error"])
    assert all(isinstance(body["error"][key], str) for key in ("code", "message", "hint"))
    return body["error"]


def test_the_three_forms_of_a_request_give_the_same_answer(shared: Service) -> None:
    form = shared.predict(RED).json()["predictions"][0]
    raw = shared.client.post("/predict", content=RED, headers=IMAGE).json()["predictions"][0]
    text = shared.client.post("/predict", json=base64_json(RED)).json()["predictions"][0]
    assert form["name"] == "0.png"
    assert {**form, "name": ""} == {**raw, "name": ""} == {**text, "name": ""}
    assert form["label"] == "red"
    assert form["probability"] == truth((200, 50, 50))
    assert [row["label"] for row in form["top"]] == ["red", "green", "blue"]


def test_several_files_are_answered_in_order(shared: Service) -> None:
    colours = many_colours(4)
    answer = shared.predict(*(colour(rgb) for rgb in colours), top=1).json()
    assert [p["probability"] for p in answer["predictions"]] == [truth(rgb) for rgb in colours]
    assert [len(p["top"]) for p in answer["predictions"]] == [1] * 4
    assert answer["model"] == {"id": "one", "architecture": "fake", "engine": "numpy"}


def test_concurrent_requests_do_not_mix(shared: Service) -> None:
    colours = many_colours(64)
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda rgb: shared.predict(colour(rgb)), colours))
    got = [answer.json()["predictions"][0]["probability"] for answer in answers]
    assert got == pytest.approx([truth(rgb) for rgb in colours], abs=2e-6)


def test_the_web_process_and_the_fake_worker_load_no_engine(shared: Service) -> None:
    model = shared.client.get("/model").json()
    assert model["info"]["loaded"] == []
    files = [entry.path for entry in shared.ps.memory_maps()]
    assert any("numpy" in file for file in files)
    assert not [file for file in files if "torch" in file or "julia" in file]


def test_ids_are_honoured_and_logged(shared: Service) -> None:
    answer = shared.client.get("/livez", headers={"X-Request-ID": "trace-1"})
    assert answer.headers["x-request-id"] == "trace-1"
    odd = shared.client.get("/livez", headers={"X-Request-ID": 'evil"id with spaces'})
    assert odd.headers["x-request-id"].isalnum()
    good = shared.client.post("/predict", content=RED, headers={**IMAGE, "X-Request-ID": "trace-2"})
    assert good.headers["x-request-id"] == "trace-2"

    def lines() -> dict[str, Any]:
        return {row["request_id"]: row for row in shared.logs() if "request_id" in row}

    until(lambda: "trace-2" in lines())  # a line is written behind the answer
    rows = lines()
    assert rows["trace-1"]["path"] == "/livez"
    assert rows["trace-2"]["status"] == 200
    assert rows["trace-2"]["images"] == 1
    assert rows["trace-2"]["ms"] >= rows["trace-2"]["compute_ms"]


def test_metrics_count(shared: Service) -> None:
    name = 'pyflux_transfer_requests_total{route="/predict",status="200"}'

    def count() -> float:
        line = next(x for x in shared.client.get("/metrics").text.splitlines() if name in x)
        return float(line.rsplit(" ", 1)[1])

    shared.predict(RED)
    before = count()
    shared.predict(RED, RED)
    assert count() == before + 1
    assert shared.metric("pyflux_transfer_queue_depth") == 0
    assert shared.metric("pyflux_transfer_workers_ready") == 1
    assert shared.metric("pyflux_transfer_requests_in_flight") == 1  # this one
    assert shared.metric("pyflux_transfer_batch_size_sum") >= 2
    assert shared.metric("pyflux_transfer_compute_seconds_count") >= 1
    text = shared.client.get("/metrics").text
    assert 'pyflux_transfer_model_info{architecture="fake"' in text
    for path in ("/a", "/b", "/c"):
        shared.client.get(path)
    assert 'route="/a"' not in shared.client.get("/metrics").text


def bomb() -> bytes:
    """Return a PNG of a few bytes whose header tells of 40,000 × 40,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(10_000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def many_files(count: int) -> tuple[bytes, dict[str, str]]:
    part = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n'
    return part * count + b"--B--\r\n", {"content-type": "multipart/form-data; boundary=B"}


BAD = {
    "empty": (b"", IMAGE, 400, "malformed_body"),
    "no type": (RED, {}, 415, "unsupported_type"),
    "wrong type": (RED, {"content-type": "text/html"}, 415, "unsupported_type"),
    "not an image": (b"hello", IMAGE, 422, "bad_image"),
    "truncated": (NOISE[: len(NOISE) // 2], IMAGE, 422, "bad_image"),
    "bomb": (bomb(), IMAGE, 422, "bad_image"),
    "boundary": (
        b"--A\r\n\r\nx\r\n--A--\r\n",
        {"content-type": "multipart/form-data; boundary=B"},
        400,
        "malformed_body",
    ),
    "base64": (b'{"images": ["?"]}', {"content-type": "application/json"}, 422, "bad_image"),
    "nested": (b"[" * 500_000, {"content-type": "application/json"}, 400, "malformed_body"),
    "10,000 files": (*many_files(10_000), 413, "too_many_images"),
    "too large": (bytes(1_000_001), IMAGE, 413, "too_large"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_body_is_told_what_is_wrong_with_it(shared: Service, case: str) -> None:
    body, headers, status, code = BAD[case]
    answer = shared.client.post("/predict", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert error(answer)["code"] == code


def test_every_bad_file_of_a_request_is_named(shared: Service) -> None:
    files = [("file", ("good.png", RED)), ("file", ("a.txt", b"text")), ("file", ("b", b""))]
    answer = shared.client.post("/predict", files=files)
    assert answer.status_code == 422
    faults = error(answer)["images"]
    assert [fault["name"] for fault in faults] == ["a.txt", "b"]
    assert all(fault["reason"] for fault in faults)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/predict", 405, "method_not_allowed"),
        ("GET", "/nothing", 404, "not_found"),
        ("POST", "/predict?top=0", 422, "invalid"),
        ("POST", "/predict?top=many", 422, "invalid"),
    ],
)
def test_other_errors_have_the_same_body(
    shared: Service, method: str, path: str, status: int, code: str
) -> None:
    answer = shared.client.request(method, path, content=RED, headers=IMAGE)
    assert answer.status_code == status
    assert error(answer)["code"] == code


def test_top_is_bounded_by_the_classes(shared: Service) -> None:
    assert len(shared.predict(RED, top=500).json()["predictions"][0]["top"]) == 3


# --- slow and huge senders, on bare sockets ------------------------------------------------------


def connect(service: Service, head: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", service.port), timeout=20)
    connection.sendall(head.replace("\n", "\r\n").encode())
    return connection


def answer_of(connection: socket.socket) -> tuple[int, dict[str, str]]:
    received = b""
    while piece := connection.recv(65536):
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]


def test_a_stream_of_100_mb_is_refused_and_not_kept(shared: Service) -> None:
    before = shared.ps.memory_info().rss
    with connect(shared, POST + CHUNKED) as connection:
        for _ in range(1600):
            connection.sendall(PIECE)
        connection.sendall(b"0\r\n\r\n")
        status, told = answer_of(connection)
    assert (status, told["code"]) == (413, "too_large")
    assert shared.ps.memory_info().rss - before < 8_000_000


def test_an_endless_stream_is_cut(shared: Service) -> None:
    sent, began = 0, time.monotonic()
    with connect(shared, POST + CHUNKED) as connection, contextlib.suppress(OSError):
        while time.monotonic() - began < 10:
            connection.sendall(PIECE)
            sent += 65536
    assert time.monotonic() - began < 5
    assert sent > 1_000_000


def test_a_declared_length_is_refused_without_reading(shared: Service) -> None:
    head = POST + "Content-Type: image/png\nContent-Length: 999999999\n"
    with connect(shared, head + "Expect: 100-continue\n\n") as connection:
        first = connection.recv(65536)
    assert first.startswith(b"HTTP/1.1 413")


def test_a_byte_now_and_then_is_answered_and_closed(shared: Service) -> None:
    head = POST + "Content-Type: image/png\nContent-Length: 100\n\n"
    began = time.monotonic()
    with connect(shared, head) as connection:
        for _ in range(4):
            connection.sendall(b"x")
            time.sleep(0.4)
        status, told = answer_of(connection)
    assert (status, told["code"]) == (408, "slow_request")
    assert time.monotonic() - began < 6


@pytest.mark.parametrize("head", ["", "POST /predict HT", "GET /livez HTTP/1.1\nHost: x\n"])
def test_headers_that_never_end_are_cut(shared: Service, head: str) -> None:
    began = time.monotonic()
    with connect(shared, head) as connection:
        assert connection.recv(100) == b""
    assert 0.8 < time.monotonic() - began < 4


def test_slow_headers_of_a_second_request_are_cut_too(shared: Service) -> None:
    with connect(shared, "GET /livez HTTP/1.1\nHost: x\n\n") as connection:
        answer = b""
        while b'{"state":"up"}' not in answer:
            answer += connection.recv(65536)
        began = time.monotonic()
        connection.sendall(b"GET /liv")
        time.sleep(0.5)
        connection.sendall(b"ez")
        assert connection.recv(100) == b""
    assert time.monotonic() - began < 4


def test_huge_headers_and_noise_get_the_error_body(shared: Service) -> None:
    with connect(shared, "GET /livez HTTP/1.1\nX: " + "x" * 70_000) as connection:
        status, told = answer_of(connection)
    assert (status, told["message"]) == (400, "The headers are too large.")
    with connect(shared, "\x16\x03\x01 no HTTP\n\n") as connection:
        status, told = answer_of(connection)
    assert (status, told["code"]) == (400, "malformed_body")


def test_a_hundred_idle_connections_do_no_harm(shared: Service) -> None:
    held = [connect(shared, "") for _ in range(100)]
    assert shared.predict(RED).status_code == 200
    for connection in held:
        connection.close()


def test_clients_that_leave_give_their_places_back(shared: Service) -> None:
    hold = shared.hold()
    head = (
        f"POST /predict HTTP/1.1\nHost: x\nContent-Type: image/png\nContent-Length: {len(RED)}\n\n"
    )
    for _ in range(20):
        with connect(shared, head) as connection:
            connection.sendall(RED)
            time.sleep(0.01)
    hold.unlink()
    until(lambda: shared.metric("pyflux_transfer_queue_depth") == 0)
    statuses = [row["status"] for row in shared.logs() if row.get("path") == "/predict"]
    assert statuses.count(499) >= 15


def test_many_bad_and_good_requests_leave_memory_and_descriptors_as_they_were(
    shared: Service,
) -> None:
    bodies = [row[:2] for row in BAD.values()] + [(RED, IMAGE)] * 20

    def once(index: int) -> int:
        body, headers = bodies[index % len(bodies)]
        return shared.client.post("/predict", content=body, headers=headers).status_code

    def footprint() -> tuple[int, int]:
        return shared.ps.memory_info().rss, shared.ps.num_fds()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(once, range(200)))
        memory, files = footprint()
        statuses = set(threads.map(once, range(600)))
    assert statuses == {200, 400, 413, 415, 422}
    assert footprint()[0] - memory < 10_000_000
    assert footprint()[1] - files < 10


# --- keys, CORS, configuration -------------------------------------------------------------------


def test_keys_guard_what_they_should(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("first\n")
    service = start("--api-key-file", str(file), PYFLUX_API_KEYS="second").wait()
    for path, open_to_all in (("/", True), ("/metrics", True), ("/livez", True), ("/model", False)):
        assert (service.client.get(path).status_code == 200) is open_to_all, path
    refused = service.predict(RED)
    assert refused.status_code == 401
    assert error(refused)["code"] == "unauthorized"
    assert refused.headers["www-authenticate"] == "Bearer"
    for key in ("first", "second"):
        for headers in ({"Authorization": f"Bearer {key}"}, {"X-API-Key": key}):
            answer = service.client.post("/predict", content=RED, headers={**IMAGE, **headers})
            assert answer.status_code == 200
    assert "first" not in service.log.read_text()


def test_other_origins_are_refused_unless_named(shared: Service, start: Start) -> None:
    origin = {"Origin": "https://app.example"}
    assert "access-control-allow-origin" not in shared.client.get("/livez", headers=origin).headers
    service = start("--cors-origins", "https://app.example").wait()
    answer = service.client.get("/livez", headers=origin)
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    other = service.client.get("/livez", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers
