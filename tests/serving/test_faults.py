"""What clients see when workers die, hang, cannot load or are overloaded; reload and drain."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.serving import loaders
from tests.serving.conftest import Start
from tests.serving.harness import (
    Service,
    base64_json,
    colour,
    many_colours,
    truth,
    until,
    write_bundle,
)

RED = colour((200, 50, 50))


def queued(service: Service, count: int) -> None:
    until(lambda: service.metric("pyflux_transfer_queue_depth") == count)


def test_overload_is_refused_at_once_and_what_was_accepted_is_answered(start: Start) -> None:
    service = start("--queue", "12", "--max-images", "4", "--max-batch", "4").wait()
    hold = service.hold()
    colours = many_colours(12)
    with ThreadPoolExecutor(12) as threads:
        accepted = [threads.submit(service.predict, colour(rgb)) for rgb in colours]
        queued(service, 12)
        for _ in range(10):
            began = time.monotonic()
            refused = service.predict(RED)
            assert time.monotonic() - began < 0.5
            assert refused.status_code == 429
            assert refused.json()["error"]["code"] == "queue_full"
            assert int(refused.headers["retry-after"]) >= 1
        hold.unlink()
        answers = [future.result() for future in accepted]
    assert [answer.status_code for answer in answers] == [200] * 12
    got = [answer.json()["predictions"][0]["probability"] for answer in answers]
    assert got == pytest.approx([truth(rgb) for rgb in colours], abs=2e-6)
    assert service.predict(RED).status_code == 200
    queued(service, 0)


def test_a_request_takes_all_its_places_or_none(start: Start) -> None:
    service = start("--queue", "4", "--max-images", "4").wait()
    hold = service.hold()
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(service.predict, RED, RED)
        queued(service, 2)
        assert service.predict(RED, RED, RED).status_code == 429
        queued(service, 2)
        hold.unlink()
        assert first.result().status_code == 200
    assert service.predict(RED, RED, RED, RED).status_code == 200


def descriptors(service: Service) -> int:
    return service.ps.num_fds()


@pytest.mark.slow
def test_twenty_kills_under_load_lose_no_request_and_leak_nothing(start: Start) -> None:
    service = start("--log-format", "json", "--decode-threads", "1").wait()
    service.predict(*[RED] * 16)  # starts all decoding processes
    before = descriptors(service)
    hold = service.hold()
    recovery = 0.0
    for _ in range(20):
        hold.touch()
        with ThreadPoolExecutor(4) as threads:
            flying = [threads.submit(service.predict, RED) for _ in range(4)]
            queued(service, 4)
            began = time.monotonic()
            service.kill_worker()
            hold.unlink()
            assert [future.result().status_code for future in flying] == [200] * 4
        service.wait()
        recovery = max(recovery, time.monotonic() - began)
    print(f"ready again after {recovery:.2f} s at most")
    assert service.metric("pyflux_transfer_worker_restarts_total") == 20
    assert service.metric("pyflux_transfer_queue_depth") == 0
    assert len(service.workers()) == 1
    assert not service.zombies()
    until(lambda: descriptors(service) <= before)
    maps = Path(f"/proc/{service.process.pid}/maps").read_text()
    assert maps.count("memfd:pyflux-transfer") == 1


def test_what_a_dead_worker_had_is_computed_by_the_next(start: Start) -> None:
    service = start("--max-batch", "2").wait()
    hold = service.hold()
    colours = many_colours(6)
    with ThreadPoolExecutor(6) as threads:
        flying = [threads.submit(service.predict, colour(rgb)) for rgb in colours]
        queued(service, 6)
        service.kill_worker()
        hold.unlink()
        answers = [future.result() for future in flying]
    got = [answer.json()["predictions"][0]["probability"] for answer in answers]
    assert got == pytest.approx([truth(rgb) for rgb in colours], abs=2e-6)


def test_a_photo_that_kills_workers_fails_alone_after_two(start: Start) -> None:
    service = start("--max-batch", "8", bundle={"lanes": 2}).wait()
    hold = service.hold()
    with ThreadPoolExecutor(6) as threads:
        flying = [threads.submit(service.predict, RED) for _ in range(5)]
        queued(service, 5)
        killer = threads.submit(service.predict, colour(loaders.CRASH))
        queued(service, 6)
        hold.unlink()
        assert [future.result().status_code for future in flying] == [200] * 5
        assert killer.result().status_code == 503
        assert killer.result().json()["error"]["code"] == "worker_lost"
    assert service.state()["workers"]["restarts"] == 2


def test_what_arrives_while_a_worker_restarts_waits_for_it(start: Start) -> None:
    service = start(bundle={"load_s": 0.5}).wait()
    service.kill_worker()
    until(lambda: service.state()["state"] != "ready", 2)
    assert service.predict(RED).status_code == 200


def test_no_wait_is_begun_that_cannot_end_in_time(start: Start) -> None:
    service = start("--deadline-s", "1", bundle={"load_s": 3.0}).wait()
    service.kill_worker()
    until(lambda: service.state()["state"] != "ready", 2)
    refused = service.predict(RED)
    assert refused.json()["error"]["code"] == "no_worker"
    assert int(refused.headers["retry-after"]) >= 2


def test_a_stopped_worker_is_told_by_readyz(start: Start) -> None:
    service = start().wait()
    service.workers()[0].suspend()
    until(lambda: service.client.get("/readyz").status_code == 503)
    assert service.state()["state"] == "stalled"
    service.workers()[0].resume()
    service.wait()


def test_a_worker_without_progress_is_told_by_readyz(start: Start) -> None:
    service = start().wait()
    with ThreadPoolExecutor(1) as threads:
        victim = threads.submit(service.predict, colour(loaders.HANG))
        until(lambda: service.state()["state"] == "stalled", 5)
        service.kill_worker()
        service.wait()
        # Only a death with the image begun counts against it.
        until(lambda: service.state()["state"] == "stalled", 5)
        service.kill_worker()
        assert victim.result().status_code == 503


def test_deaths_while_loading_are_not_for_ever_once_it_has_served(start: Start) -> None:
    service = start().wait()
    write_bundle(service.bundle, die_at_start=True)
    service.kill_worker()
    until(lambda: service.state()["workers"]["restarts"] >= 4, 20)
    assert service.state()["state"] != "ready"
    write_bundle(service.bundle)
    service.wait()
    assert service.predict(RED).status_code == 200


def test_a_bundle_that_is_half_there_at_a_restart_is_tried_again(start: Start) -> None:
    service = start().wait()
    write_bundle(service.bundle, broken="cut short")
    service.kill_worker()
    until(lambda: service.state()["workers"]["restarts"] >= 2, 20)
    write_bundle(service.bundle)
    service.wait()
    assert service.predict(RED).status_code == 200


def test_a_hang_up_at_the_start_and_in_the_drain_is_harmless(start: Start) -> None:
    service = start(bundle={"load_s": 0.5})
    service.wait("installing")
    service.process.send_signal(signal.SIGHUP)
    service.wait()
    hold = service.hold()
    with ThreadPoolExecutor(1) as threads:
        flying = threads.submit(service.predict, RED)
        queued(service, 1)
        service.terminate()
        for _ in range(5):
            service.process.send_signal(signal.SIGHUP)
            time.sleep(0.02)
        hold.unlink()
        assert flying.result().status_code == 200
    while service.process.poll() is None:
        service.process.send_signal(signal.SIGHUP)
        time.sleep(0.005)
    assert service.process.returncode == 0


def test_while_no_worker_is_there_requests_are_refused_at_once(start: Start) -> None:
    service = start(bundle={"load_s": 3.0})
    service.wait("installing")
    answer = service.predict(RED)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "no_worker"
    assert int(answer.headers["retry-after"]) >= 1
    assert service.client.get("/readyz").status_code == 503
    assert service.client.get("/livez").status_code == 200
    assert service.client.get("/model").status_code == 503
    service.wait()
    assert service.predict(RED).status_code == 200


def test_an_image_that_kills_the_worker_does_not_stop_the_service(start: Start) -> None:
    service = start().wait()
    for _ in range(2):
        assert service.predict(colour(loaders.CRASH)).status_code == 503
        service.wait()
        assert service.predict(RED).status_code == 200


def test_a_worker_that_hangs_is_found_and_replaced(start: Start) -> None:
    service = start("--deadline-s", "1").wait()
    old = service.workers()[0].pid
    began = time.monotonic()
    with ThreadPoolExecutor(2) as threads:
        victim = threads.submit(service.predict, colour(loaders.HANG))
        time.sleep(0.5)
        neighbour = threads.submit(service.predict, RED)
        # Its own deadline and the worker's are about the same moment.
        assert victim.result().status_code in (503, 504)
        assert time.monotonic() - began < 2
        assert neighbour.result().status_code in (503, 504)
        assert time.monotonic() - began < 2
    until(lambda: service.state()["workers"]["restarts"] == 1)
    service.wait()
    assert service.workers()[0].pid != old
    assert service.predict(RED).status_code == 200
    assert 'reason="hung"' in service.client.get("/metrics").text


def test_a_hung_batch_is_found_while_others_are_answered_beside_it(start: Start) -> None:
    service = start("--deadline-s", "1", bundle={"lanes": 2}).wait()
    with ThreadPoolExecutor(2) as threads:
        # A lone image would be computed by the thread that also forms the batches.
        victim = threads.submit(service.predict, colour(loaders.HANG), RED)
        time.sleep(0.2)
        answers = []
        began = time.monotonic()
        while service.state()["workers"]["restarts"] == 0:
            answers.append(service.predict(RED, RED).status_code)
            assert time.monotonic() - began < 30
        assert 200 in answers
        assert victim.result().status_code in (503, 504)
    service.wait()
    assert service.predict(RED).status_code == 200


def test_a_deadline_is_kept_while_the_worker_is_merely_slow(start: Start) -> None:
    service = start("--deadline-s", "1", "--max-batch", "1", bundle={"delay_s": 0.4}).wait()
    with ThreadPoolExecutor(8) as threads:
        answers = [future.result() for future in [threads.submit(service.predict, RED)] * 1]
        flood = [threads.submit(service.predict, RED) for _ in range(8)]
        counts = Counter(future.result().status_code for future in flood)
    assert [answer.status_code for answer in answers] == [200]
    assert set(counts) == {200, 504}
    assert counts[200] >= 2
    assert service.state()["workers"]["restarts"] == 0
    # What was given up is not computed: the worker is free again at once.
    queued(service, 0)
    assert service.predict(RED).status_code == 200


@pytest.mark.parametrize(
    ("bundle", "reason"),
    [
        ({"broken": "tensor 7 is missing"}, "tensor 7 is missing"),
        ({"die_at_start": True}, "killed by SIGKILL, 3 times in a row"),
        ({"scale": 2}, "do not sum to 1"),
        ({"how": {"crop": 2049, "resize": 2049}}, "preprocessing.crop"),
    ],
)
def test_what_can_never_be_served_ends_the_process_with_a_status(
    start: Start, bundle: dict[str, object], reason: str
) -> None:
    service = start(bundle=bundle)
    assert service.process.wait(20) == 1
    assert reason in service.log.read_text()


@pytest.mark.parametrize(
    "bad",
    [
        {"scale": float("nan")},
        {"how": {"std": [float("nan")] * 3}},
        {"how": {"mean": [0.1, 0.2]}},
        {"classes": ["a", "b"]},
    ],
)
def test_a_bad_model_never_replaces_a_good_one(start: Start, bad: dict[str, object]) -> None:
    service = start(bundle={"id": "good"}).wait()
    write_bundle(service.bundle, id="bad", **bad)
    service.process.send_signal(signal.SIGHUP)
    until(lambda: "newer bundle cannot be served" in service.state()["reason"])
    assert service.state()["state"] == "ready"
    answer = service.predict(RED)
    assert answer.status_code == 200
    assert answer.json()["model"]["id"] == "good"


def test_an_engine_error_is_the_image_s_own_and_a_broken_engine_is_replaced(start: Start) -> None:
    service = start("--window-ms", "50").wait()
    bad = service.predict(RED, colour(loaders.FAIL))
    assert bad.status_code == 500
    assert "this colour cannot be computed" in bad.json()["error"]["message"]
    assert service.predict(colour(loaders.NAN)).status_code == 500
    assert service.predict(RED).status_code == 200
    assert service.state()["workers"]["restarts"] == 0
    for _ in range(3):
        assert service.predict(colour(loaders.FAIL)).status_code == 500
    until(lambda: service.state()["workers"]["restarts"] == 1)
    service.wait()
    assert service.predict(RED).status_code == 200


def test_one_client_s_limit_is_not_another_s(start: Start) -> None:
    options = ("--client-images", "4", "--max-images", "4", "--queue", "12")
    service = start(*options, PYFLUX_API_KEYS="one,two").wait()
    hold = service.hold()

    def ask(key: str) -> httpx.Response:
        return service.client.post(
            "/predict", json=base64_json(RED, RED), headers={"X-API-Key": key}
        )

    with ThreadPoolExecutor(3) as threads:
        flying = [threads.submit(ask, "one") for _ in range(2)]
        queued(service, 4)
        refused = ask("one")
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "client_full"
        other = threads.submit(ask, "two")
        queued(service, 6)
        hold.unlink()
        assert [each.result().status_code for each in (*flying, other)] == [200] * 3
    text = service.client.get("/metrics").text
    assert 'pyflux_transfer_images_total{client="key 1"} 4.0' in text
    assert 'pyflux_transfer_images_total{client="key 2"} 2.0' in text


def test_a_small_request_does_not_wait_for_all_images_of_large_ones(start: Start) -> None:
    options = ("--max-batch", "1", "--queue", "128", "--max-images", "32")
    service = start(*options, bundle={"delay_s": 0.02}).wait()
    with ThreadPoolExecutor(4) as threads:
        large = [threads.submit(service.predict, *[RED] * 32) for _ in range(3)]
        until(lambda: service.metric("pyflux_transfer_queue_depth") > 80)
        assert service.predict(RED).status_code == 200
        assert not any(each.done() for each in large)
        assert [each.result().status_code for each in large] == [200] * 3


def test_two_workers_share_the_load_and_one_s_death_is_not_the_other_s(start: Start) -> None:
    service = start("--workers", "2", "--max-batch", "1").wait()
    until(lambda: service.state()["workers"]["ready"] == 2)
    hold = service.hold()
    with ThreadPoolExecutor(8) as threads:
        flying = [threads.submit(service.predict, RED) for _ in range(8)]
        queued(service, 8)
        service.kill_worker()
        hold.unlink()
        counts = Counter(future.result().status_code for future in flying)
    assert counts == {200: 8}
    until(lambda: service.state()["workers"]["ready"] == 2)


# --- reload --------------------------------------------------------------------------------------


def hammer(service: Service, stop: threading.Event) -> Counter[tuple[int, str]]:
    """Send requests one after the other; return how often each model gave each status."""
    counts: Counter[tuple[int, str]] = Counter()
    with httpx.Client(base_url=service.url, timeout=20) as client:
        while not stop.is_set():
            answer = client.post("/predict", json=base64_json(RED))
            counts[answer.status_code, answer.json().get("model", {}).get("id", "")] += 1
    return counts


@pytest.mark.parametrize("how", ["SIGHUP", "--reload-model"])
def test_a_newer_bundle_is_taken_without_dropping_a_request(start: Start, how: str) -> None:
    options = [how] if how.startswith("--") else []
    service = start(*options, bundle={"id": "old", "load_s": 0.3}).wait()
    stop = threading.Event()
    with ThreadPoolExecutor(4) as threads:
        running: list[Future[Counter[tuple[int, str]]]] = [
            threads.submit(hammer, service, stop) for _ in range(4)
        ]
        time.sleep(0.3)
        names = ["cat", "dog", "cow", "owl"]
        write_bundle(service.bundle, id="new", load_s=0.3, classes=names[:3])
        if how == "SIGHUP":
            service.process.send_signal(signal.SIGHUP)
        until(lambda: service.client.get("/model").json()["id"] == "new")
        time.sleep(0.3)
        stop.set()
        counts = sum((future.result() for future in running), Counter[tuple[int, str]]())
    assert set(counts) == {(200, "old"), (200, "new")}
    assert service.predict(RED).json()["predictions"][0]["label"] == "cat"
    until(lambda: len(service.workers()) == 1)
    maps = Path(f"/proc/{service.process.pid}/maps")
    until(lambda: maps.read_text().count("memfd:pyflux-transfer") == 1)


def test_a_request_in_flight_is_answered_by_the_model_that_admitted_it(start: Start) -> None:
    service = start(bundle={"id": "old"}).wait()
    hold = service.hold()
    with ThreadPoolExecutor(1) as threads:
        flying = threads.submit(service.predict, RED)
        queued(service, 1)
        write_bundle(service.bundle, id="new", classes=["a", "b", "c"])
        service.process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert service.client.get("/model").json()["id"] == "old"  # the new one is held, too
        hold.unlink()
        assert flying.result().json()["predictions"][0]["label"] in ("red", "a")
    until(lambda: service.client.get("/model").json()["id"] == "new")


def test_a_bad_newer_bundle_leaves_the_old_one(start: Start, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("one\n")
    service = start("--api-key-file", str(keys)).wait()
    write_bundle(service.bundle, broken="cut short")
    keys.write_text("")
    service.process.send_signal(signal.SIGHUP)
    until(lambda: "cut short" in service.state()["reason"])
    assert service.state()["state"] == "ready"
    allowed = {"X-API-Key": "one"}
    answer = service.client.post("/predict", json=base64_json(RED), headers=allowed)
    assert answer.status_code == 200
    keys.write_text("two\n")
    write_bundle(service.bundle, id="three")
    service.process.send_signal(signal.SIGHUP)
    until(lambda: service.client.get("/model", headers={"X-API-Key": "two"}).status_code == 200)
    assert service.client.get("/model", headers=allowed).status_code == 401
    until(lambda: service.state()["reason"] == "")


def test_a_restart_that_finds_another_bundle_changes_over(start: Start) -> None:
    service = start(bundle={"id": "old"}).wait()
    write_bundle(service.bundle, id="new", classes=["x", "y", "z"])
    service.kill_worker()
    until(lambda: service.client.get("/model").json().get("id") == "new", 20)
    service.wait()
    assert service.predict(RED).json()["predictions"][0]["label"] == "x"


# --- the end -------------------------------------------------------------------------------------


def test_sigterm_answers_what_was_accepted_and_exits_0(start: Start) -> None:
    service = start("--max-batch", "2").wait()
    hold = service.hold()
    with ThreadPoolExecutor(6) as threads:
        accepted = [threads.submit(service.predict, RED) for _ in range(6)]
        queued(service, 6)
        worker = service.workers()[0]
        service.terminate()
        os.kill(worker.pid, signal.SIGTERM)  # managers signal the whole group
        until(lambda: refused(service))
        hold.unlink()
        assert [future.result().status_code for future in accepted] == [200] * 6
    assert service.process.wait(10) == 0
    assert not worker.is_running()


def refused(service: Service) -> bool:
    try:
        httpx.get(f"{service.url}/livez", timeout=1)
    except httpx.TransportError:
        return True
    return False


def test_the_grace_time_ends_even_when_the_worker_hangs(start: Start) -> None:
    service = start("--grace-s", "1").wait()
    with ThreadPoolExecutor(1) as threads:
        victim = threads.submit(service.predict, colour(loaders.HANG))
        queued(service, 1)
        worker = service.workers()[0]
        service.terminate()
        assert victim.result().status_code == 503
        assert victim.result().json()["error"]["message"] == "The service is ending."
        assert service.process.wait(8) == 0
    assert not worker.is_running()


def test_ctrl_c_while_loading_ends_soon(start: Start) -> None:
    service = start(bundle={"load_s": 30})
    service.wait("installing")
    worker = service.workers()[0]
    began = time.monotonic()
    service.process.send_signal(signal.SIGINT)
    assert service.process.wait(5) == 0
    assert time.monotonic() - began < 2
    assert not worker.is_running()


def test_the_grace_time_ends_whatever_is_being_decoded(start: Start) -> None:
    service = start("--grace-s", "1", "--decode-threads", "1").wait()
    service.predict(*[RED] * 8)
    decoders = service.decoders()
    for decoder in decoders:
        decoder.suspend()
    with ThreadPoolExecutor(1) as threads:
        victim = threads.submit(service.predict, RED)
        queued(service, 1)
        service.terminate()
        assert victim.result().status_code == 503
        assert service.process.wait(8) == 0
    assert not any(decoder.is_running() for decoder in decoders)


def test_a_photo_whose_decoding_hangs_is_answered_and_its_process_replaced(start: Start) -> None:
    service = start("--decode-s", "0.5", "--decode-threads", "1").wait()
    service.predict(*[RED] * 8)
    for decoder in service.decoders():
        decoder.suspend()
    answer = service.predict(RED)
    assert answer.status_code == 422
    assert "longer than 0.5 s" in answer.json()["error"]["message"]
    for decoder in service.decoders():
        decoder.resume()
    assert service.predict(RED).status_code == 200


def test_killed_decoding_processes_lose_no_request(start: Start) -> None:
    service = start().wait()
    for _ in range(3):
        assert service.predict(*[RED] * 8).status_code == 200
        for decoder in service.decoders():
            decoder.kill()


def test_all_processes_end_when_the_web_process_is_killed(start: Start) -> None:
    service = start().wait()
    service.predict(RED)
    children = [*service.workers(), *service.decoders()]
    assert len(children) >= 2
    service.process.kill()
    service.process.wait()
    for child in children:
        until(lambda child=child: not child.is_running() or child.status() == "zombie", 5)
