"""The service's contract, over Ray Serve: its own tests, asked through Ray's proxy."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from pyflux_transfer.errors import InputError
from tests.serving import harness, loaders, test_app
from tests.serving.harness import colour, many_colours, truth

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore")]
RED = colour((200, 50, 50))


class Behind:
    """A service behind Ray's proxy, with the harness's way of asking."""

    predict = harness.Service.predict
    state = harness.Service.state
    metric = harness.Service.metric

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.url, timeout=20)


@pytest.fixture(scope="module")
def shared(ray: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    from ray import serve

    from pyflux_transfer.cluster.serve import deployment

    bundle = harness.write_bundle(tmp_path_factory.mktemp("serve") / "fake.json")
    port = harness.free_port()
    serve.start(http_options={"port": port, "host": "127.0.0.1"})
    app = deployment(
        bundle, replicas=2, cpus=1, loader=loaders.NAME, max_images=4, max_body_bytes=1_000_000,
        max_pixels=1_000_000, receive_s=1,
    )  # fmt: skip
    serve.run(app)
    assert ray.is_initialized()
    service = Behind(port)
    yield service
    service.client.close()
    serve.shutdown()


CONTRACT = (
    test_app.test_the_three_forms_of_a_request_give_the_same_answer,
    test_app.test_several_files_are_answered_in_order,
    test_app.test_concurrent_requests_do_not_mix,
    test_app.test_every_bad_file_of_a_request_is_named,
    test_app.test_top_is_bounded_by_the_classes,
)


@pytest.mark.parametrize("test", CONTRACT, ids=lambda test: test.__name__)
def test_the_contract_holds(shared: Behind, test: Any) -> None:
    test(shared)


@pytest.mark.parametrize("case", sorted(test_app.BAD))
def test_a_bad_body_is_told_what_is_wrong_with_it(shared: Behind, case: str) -> None:
    test_app.test_a_bad_body_is_told_what_is_wrong_with_it(shared, case)  # type: ignore[arg-type]


OTHERS = [
    ("GET", "/predict", 405, "method_not_allowed"),
    ("GET", "/nothing", 404, "not_found"),
    ("POST", "/predict?top=0", 422, "invalid"),
]


@pytest.mark.parametrize("row", OTHERS, ids=lambda row: row[1])
def test_other_errors_have_the_same_body(shared: Behind, row: Any) -> None:
    test_app.test_other_errors_have_the_same_body(shared, *row)  # type: ignore[arg-type]


def test_ready_means_that_the_network_answers(shared: Behind) -> None:
    assert shared.state()["state"] == "ready"
    assert shared.client.get("/livez").status_code == 200
    assert shared.client.get("/model").json()["architecture"] == "fake"
    assert "drop" in shared.client.get("/").text.lower()


def test_a_replica_that_is_killed_is_replaced_and_the_service_goes_on(shared: Behind) -> None:
    replicas = [
        process
        for process in psutil.process_iter(["cmdline"])
        if "ServeReplica:default:pyflux-transfer" in " ".join(process.info["cmdline"] or [])
    ]
    assert len(replicas) == 2
    os.kill(replicas[0].pid, signal.SIGKILL)
    colours = many_colours(40)
    answered = 0
    for rgb in colours:
        answer = shared.predict(colour(rgb))
        if answer.status_code == 200:
            answered += 1
            said = answer.json()["predictions"][0]["probability"]
            assert said == pytest.approx(truth(rgb), abs=2e-6)
    assert answered >= 30


def test_a_configuration_of_ray_serve_makes_the_same(tmp_path: Path) -> None:
    from pyflux_transfer.cluster.serve import app

    made = app({"bundle": str(tmp_path / "b.safetensors"), "replicas": "[1, 3]", "cpus": "0.5"})
    config = made._bound_deployment._deployment_config
    assert config.autoscaling_config.max_replicas == 3


def test_what_cannot_be_is_refused_before_anything_starts(tmp_path: Path) -> None:
    from pyflux_transfer.cluster.serve import deployment

    with pytest.raises(InputError, match="replicas"):
        deployment(tmp_path / "b.safetensors", replicas=(3, 2))
    with pytest.raises(InputError, match="--max-images"):
        deployment(tmp_path / "b.safetensors", max_images=0)
