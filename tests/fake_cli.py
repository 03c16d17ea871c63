"""The command line with the NumPy engine among the engines: run by tests as a process."""

from __future__ import annotations

from pyflux_transfer.cli.app import main
from pyflux_transfer.engines import ENGINES
from pyflux_transfer.networks.catalog import MODELS
from tests.engines import fake

if __name__ == "__main__":
    ENGINES["fake"] = "tests.engines.fake"
    MODELS["tiny"] = fake.TINY
    main()
