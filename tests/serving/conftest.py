from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving.harness import Service, write_bundle

Start = Callable[..., Service]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with small limits that the tests of a module share: none may break it."""
    bundle = write_bundle(tmp_path_factory.mktemp("shared") / "fake.json")
    options = ("--max-images", "4", "--max-body-bytes", "1000000", "--max-pixels", "1000000")
    with Service(bundle, *options, "--receive-s", "1", "--log-format", "json") as service:
        yield service.wait()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start services of the test's own; `bundle` rows are the fake's."""
    running: list[Service] = []

    def begin(*options: str, bundle: dict[str, Any] | None = None, **environment: str) -> Service:
        path = write_bundle(tmp_path / "fake.json", **(bundle or {}))
        running.append(Service(path, *options, **environment))
        return running[-1]

    yield begin
    for service in running:
        service.__exit__()
