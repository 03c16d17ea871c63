"""What clients may do with a connection: offers, floods, silence, and what HTTP allows besides."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from tests.serving.conftest import Start
from tests.serving.harness import Service, colour, until

RED = colour((200, 50, 50))
POST = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def connect(service: Service, *pieces: bytes, pause_s: float = 0.0) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", service.port), timeout=20)
    for piece in pieces:
        connection.sendall(piece)
        time.sleep(pause_s)
    return connection


def everything(connection: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            received += piece
    connection.close()
    return received


@pytest.mark.parametrize("pause_s", [0.0, 0.2])
@pytest.mark.parametrize("offer", [b"h2c", b"websocket", b"anything"])
def test_an_offered_upgrade_is_passed_over_and_its_body_is_no_request(
    shared: Service, offer: bytes, pause_s: float
) -> None:
    inner = b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-ID: SMUGGLED\r\n\r\n"
    head = POST + b"Connection: Upgrade\r\nUpgrade: %b\r\n" % offer
    head += b"Content-Length: %d\r\n\r\n" % len(inner)
    received = everything(connect(shared, head, inner, pause_s=pause_s))
    assert received.startswith(b"HTTP/1.1 422")
    assert b"SMUGGLED" not in received


def test_a_client_that_offers_http_2_is_answered(shared: Service) -> None:
    offer = {
        "Connection": "Upgrade, HTTP2-Settings",
        "Upgrade": "h2c",
        "HTTP2-Settings": "AAMAAABk",
    }
    answer = shared.client.post(
        "/predict", content=RED, headers={"Content-Type": "image/png", **offer}
    )
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("start", "unit"),
    [
        (CHUNKED + b"1\r\nx\r\n0\r\n", b"a:b\r\n"),
        (CHUNKED + b"1\r\nx\r\n0\r\nx: ", b"a"),
        (CHUNKED + b"1;", b"e=f;"),
        (CHUNKED, b"1\r\nx\r\n"),
        (b"GET / HTTP/1.1\r\n", b"a:b\r\n"),
        (b"GET /", b"a"),
    ],
    ids=["trailers", "one trailer", "chunk extension", "tiny chunks", "headers", "address"],
)
def test_a_flood_beside_the_body_is_cut_and_not_kept(
    shared: Service, start: bytes, unit: bytes
) -> None:
    before = shared.ps.memory_info().rss
    block = unit * (65536 // len(unit))
    sent = 0
    with connect(shared, start) as connection, contextlib.suppress(OSError):
        while sent < 100_000_000:
            connection.sendall(block)
            sent += len(block)
    assert sent < 50_000_000
    assert shared.ps.memory_info().rss - before < 8_000_000
    assert shared.client.get("/livez").status_code == 200


def test_what_is_pipelined_behind_a_request_waits_outside(shared: Service) -> None:
    hold = shared.hold()
    before = shared.ps.memory_info().rss
    head = POST + b"Content-Length: %d\r\n\r\n" % len(RED)
    sent = 0
    with connect(shared, head + RED + b"GET / HTTP/1.1\r\n") as connection:
        connection.settimeout(0.5)
        with contextlib.suppress(OSError):
            while sent < 100_000_000:
                sent += connection.send(b"a:b\r\n" * 13_000)
    hold.unlink()
    assert sent < 50_000_000
    assert shared.ps.memory_info().rss - before < 8_000_000


def test_a_client_that_reads_nothing_is_cut(shared: Service) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", shared.port))
        connection.settimeout(0.5)
        with contextlib.suppress(OSError):
            for _ in range(1000):
                connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        mine = connection.getsockname()[1]

        def open_here() -> bool:
            return any(c.raddr and c.raddr.port == mine for c in shared.ps.net_connections("tcp"))

        assert open_here()
        until(lambda: not open_here(), 8)
    until(lambda: shared.metric("pyflux_transfer_requests_in_flight") == 1)


def test_the_oldest_idle_connection_makes_room(start: Start) -> None:
    service = start("--max-connections", "8").wait()
    idle = [connect(service, b"") for _ in range(20)]
    # Not by `service.client`, whose connection was idle, too.
    assert httpx.get(f"{service.url}/livez").status_code == 200
    assert idle[0].recv(10) == b""
    for connection in idle:
        connection.close()


def test_when_all_connections_are_answered_one_more_is_refused(start: Start) -> None:
    service = start("--max-connections", "8").wait()
    service.client.close()
    hold = service.hold()
    head = POST + b"Content-Length: %d\r\n\r\n" % len(RED)
    busy = [connect(service, head + RED) for _ in range(8)]
    time.sleep(0.3)
    refused = everything(connect(service))
    assert refused.startswith(b"HTTP/1.1 503")
    assert b"retry-after: 1" in refused
    assert b'"overloaded"' in refused
    hold.unlink()
    for connection in busy:
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        connection.close()


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/model", "/metrics", "/docs"])
def test_head_is_answered_as_get_without_the_body(shared: Service, path: str) -> None:
    got, head = shared.client.get(path), shared.client.head(path)
    assert head.status_code == got.status_code
    assert head.headers["content-type"] == got.headers["content-type"]
    assert head.content == b""


def test_the_whole_address_may_stand_for_the_path(shared: Service) -> None:
    received = everything(
        connect(shared, b"GET http://x/livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    )
    assert received.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("path", ["/", "/docs", "/livez", "/openapi.json", "/nothing", "/metrics"])
def test_every_answer_says_what_browsers_may_do_with_it(shared: Service, path: str) -> None:
    headers = shared.client.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"


def test_the_description_asks_no_other_host_for_anything(shared: Service) -> None:
    page = shared.client.get("/docs").text
    assert "://" not in page
    assert "innerHTML" not in page


def test_every_log_line_has_the_chosen_form(shared: Service) -> None:
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    assert shared.client.post("/predict", content=b"--b\nnothing", headers=form).status_code == 400
    connect(shared, b"\x00 no HTTP \r\n\r\n").close()
    time.sleep(0.2)
    for line in shared.log.read_text().splitlines():
        assert set(json.loads(line)) >= {"time", "level", "logger", "message"}


@pytest.mark.parametrize("keys", ["", "one"])
def test_listening_to_everybody_without_a_key_is_warned_of(start: Start, keys: str) -> None:
    environment = {"PYFLUX_API_KEYS": keys} if keys else {}
    service = start("--host", "0.0.0.0", **environment).wait()
    assert ("without an API key" in service.log.read_text()) is not bool(keys)


# --- TLS -----------------------------------------------------------------------------------------


def certify(folder: Path, name: str) -> tuple[Path, Path]:
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "1", "-subj", f"/CN={name}", "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    return key, certificate


def shown(service: Service) -> bytes:
    """Return the certificate that a client is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", service.port), timeout=5) as plain,
        context.wrap_socket(plain) as wrapped,
    ):
        return wrapped.getpeercert(binary_form=True) or b""


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
def test_handshakes_have_a_deadline_and_certificates_are_read_again(
    start: Start, tmp_path: Path
) -> None:
    key, certificate = certify(tmp_path, "first")
    files = ("--ssl-keyfile", str(key), "--ssl-certfile", str(certificate))
    service = start(*files, "--receive-s", "1")
    until(lambda: "Uvicorn running" in service.log.read_text(), 20)
    first = shown(service)
    with connect(service, b"\x16\x03") as silent:
        began = time.monotonic()
        assert silent.recv(10) == b""
        assert time.monotonic() - began < 5
    certificate.write_text("no certificate")
    service.process.send_signal(signal.SIGHUP)
    until(lambda: "The old certificate stays" in service.log.read_text())
    assert shown(service) == first
    certify(tmp_path, "second")
    service.process.send_signal(signal.SIGHUP)
    until(lambda: shown(service) != first)


def test_heat_maps_come_where_they_are_asked_for(shared: Service) -> None:
    image = colour((200, 30, 30))
    plain = shared.predict(image).json()["predictions"][0]
    assert "heat_map" not in plain
    found = shared.predict(image, image, explain=1).json()["predictions"]
    assert [row["label"] for row in found] == [plain["label"]] * 2
    assert all("heat_map" in row for row in found)
