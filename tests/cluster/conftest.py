"""Tests marked `cluster` share one Ray of two processors, started where the first one needs it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave them out unless they are asked for: `make test-cluster`."""
    if "cluster" in str(config.option.markexpr):
        return
    for item in items:
        if item.get_closest_marker("cluster"):
            item.add_marker(pytest.mark.skip(reason="needs Ray: run `make test-cluster`"))


@pytest.fixture(scope="session")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Ray on this machine, with room for two workers."""
    import ray

    root = Path(__file__).parents[2]
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    os.environ["PYFLUX_CONFIG"] = str(tmp_path_factory.mktemp("none") / "none.json")
    ray.init(num_cpus=4, include_dashboard=False, logging_level="error", log_to_driver=False)
    yield ray
    ray.shutdown()
