"""The published interface, and random requests made from it."""

from __future__ import annotations

import re
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import strategies as st

from tests.serving.harness import Service


def test_every_route_is_described(shared: Service) -> None:
    page = shared.client.get("/openapi.json").json()
    assert set(page["paths"]) == {"/predict", "/model", "/livez", "/readyz", "/metrics"}
    predict = page["paths"]["/predict"]["post"]
    assert set(predict["requestBody"]["content"]) == {
        "multipart/form-data",
        "image/*",
        "application/json",
    }
    assert {"200", "400", "401", "408", "413", "415", "422", "429", "503", "504"} <= set(
        predict["responses"]
    )
    assert predict["security"]
    for status, answer in predict["responses"].items():
        wanted = "Predictions" if status == "200" else "ErrorBody"
        assert answer["content"]["application/json"]["schema"]["$ref"].endswith(wanted)


def test_the_answers_fit_their_schemas(shared: Service) -> None:
    schema = schemathesis.openapi.from_url(f"{shared.url}/openapi.json")
    for path in ("/model", "/readyz", "/livez"):
        answer = shared.client.get(path)
        schema[path]["GET"].validate_response(answer)


@pytest.mark.filterwarnings("ignore")
def test_random_requests_of_the_schema_never_meet_a_500(shared: Service) -> None:
    schema = schemathesis.openapi.from_url(f"{shared.url}/openapi.json")
    seen: set[int] = set()
    quiet = hypothesis.settings(
        max_examples=40,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    modes = [(path, schemathesis.GenerationMode.POSITIVE) for path in ("/predict", "/model")]
    for path, mode in (*modes, ("/predict", schemathesis.GenerationMode.NEGATIVE)):
        operation = schema[path]["POST" if path == "/predict" else "GET"]

        @quiet
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def send(case: Any) -> None:
            answer = case.call(base_url=shared.url)
            seen.add(answer.status_code)
            assert answer.status_code < 500, answer.text

        send()
    assert 200 in seen
    assert seen & {400, 415, 422}


WORDS = st.sampled_from(
    [
        b"--B\r\n",
        b"\r\n--B--\r\n",
        b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n',
        b"\xff\xd8\xff\xe0",
        b"\x89PNG\r\n\x1a\n",
        b'{"images": ["',
        b'"]}',
        b"QUJD",
    ]
)
TYPES = st.sampled_from(
    ["multipart/form-data; boundary=B", "image/jpeg", "application/json", "image/", "x", ""]
)


@hypothesis.settings(max_examples=300, deadline=None, database=None, derandomize=True)
@hypothesis.given(kind=TYPES, words=st.lists(st.one_of(WORDS, st.binary(max_size=20)), max_size=12))
def _garbage(client: httpx.Client, kind: str, words: list[bytes]) -> None:
    answer = client.post("/predict", content=b"".join(words), headers={"content-type": kind})
    assert answer.status_code in (400, 413, 415, 422), answer.text
    assert re.fullmatch(r"[a-z_]+", answer.json()["error"]["code"])


def test_garbage_is_always_the_sender_s_fault(shared: Service) -> None:
    _garbage(shared.client)
