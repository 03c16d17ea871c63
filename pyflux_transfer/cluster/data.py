"""A job on Ray Data: shares stream through actors, each of which has the network once.

What crosses the cluster is paths one way and counts the other: photos are read where they are
decoded, records are written where they are computed. So memory is bounded whatever the number of
photos, and an actor that dies costs the shares it was at, which Ray gives to another.
"""

from __future__ import annotations

import inspect
import logging
import os
import re
import socket
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from pyflux_transfer.cluster.optional import needed
from pyflux_transfer.cluster.parts import Parts
from pyflux_transfer.cluster.photos import Photo
from pyflux_transfer.cluster.run import Counts, done
from pyflux_transfer.cluster.work import Job, Worker
from pyflux_transfer.errors import InputError

LOCAL = "local"
ANSWER_S = 5.0  # for a cluster to take a connection
RETRIES = 5  # of a share whose worker died: what kills every worker ends the job
_FIELDS = [field.name for field in fields(Photo)]


@dataclass(frozen=True)
class Cluster:
    """Where Ray runs, and what each worker takes of it.

    `address` is a cluster's ("auto", "ray://host:10001", "host:6379"), or "local" for one that is
    started on this machine and ends with the job. `workers` load a network each; without a number
    there is one for every `cpus` of the cluster, or every `gpus` where they take some.
    """

    address: str = LOCAL
    workers: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise InputError(f"workers must be at least 1, got {self.workers}.")
        if self.cpus <= 0 or self.gpus < 0:
            raise InputError(
                f"cpus must be above 0 and gpus not below, got {self.cpus, self.gpus}."
            )

    def count(self) -> int:
        """Return how many workers there are to be on the cluster that is connected."""
        if self.workers:
            return self.workers
        there = needed("ray", "--cluster").cluster_resources()
        fitting = [there.get("CPU", 0) / self.cpus]
        if self.gpus:
            fitting.append(there.get("GPU", 0) / self.gpus)
        return max(int(min(fitting)), 1)

    def connect(self) -> Any:
        """Connect to the cluster, or start the local one; return Ray's context.

        Raises InputError where none answers.
        """
        ray = needed("ray", "--cluster")
        if ray.is_initialized():
            return ray
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        quiet: dict[str, Any] = {"log_to_driver": True, "logging_level": "warning"}
        try:
            if self.address == LOCAL:
                count = self.workers or None
                # One more than the workers': Ray's own tasks must find room beside them.
                cpus = None if count is None else int(count * self.cpus) + 1
                ray.init(num_cpus=cpus, include_dashboard=False, **quiet)
            else:
                _refuse_silent(self.address)
                ray.init(self.address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(
                f"No Ray cluster answers at '{self.address}' ({error}). Start one with "
                "`ray start --head`, or give --cluster local."
            ) from error
        return ray

    def close(self) -> None:
        """Leave the cluster; a local one ends."""
        ray = needed("ray", "--cluster")
        if ray.is_initialized():
            ray.shutdown()


@dataclass(frozen=True)
class OnRay:
    """Does the shares of a job on a cluster: a `run.Runner`."""

    cluster: Cluster

    def __call__(
        self, job: Job, parts: Parts, shares: Sequence[Sequence[Photo]]
    ) -> Iterator[Counts]:
        """Yield the counts of each share, as it is done."""
        ray = self.cluster.connect()
        arrow, data = needed("pyarrow", "--cluster"), needed("ray.data", "--cluster")
        data.DataContext.get_current().enable_progress_bars = False
        for name in ("ray.data", "ray._internal", "ray.data._internal"):
            logging.getLogger(name).setLevel(logging.WARNING)
        tables = [_table(arrow, share) for share in shares]
        kept = ray.put(job)  # as long as this lives an actor can be started anew
        warnings.filterwarnings("ignore", ".*ray_remote_args_fn.*")
        told = data.from_arrow(tables).map_batches(
            Shares,
            fn_constructor_args=(kept, parts),
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=data.ActorPoolStrategy(size=min(self.cluster.count(), len(shares))),
            num_cpus=self.cluster.cpus,
            num_gpus=self.cluster.gpus or None,
            **_persistence(data.Dataset.map_batches),
        )
        for batch in told.iter_batches(batch_size=None, batch_format="pyarrow"):
            for row in batch.to_pylist():
                yield Counts(**row)


def _persistence(map_batches: Any) -> dict[str, Any]:
    """Bound how often a share is tried again, in versions of Ray that let one; else for ever."""
    bounded = "ray_remote_args_fn" in inspect.signature(map_batches).parameters
    return {"ray_remote_args_fn": lambda: {"max_task_retries": RETRIES}} if bounded else {}


def _refuse_silent(address: str) -> None:
    """Raise InputError where nothing listens at an address: Ray would wait for ten minutes."""
    found = re.fullmatch(r"(?:ray://)?([^:/]+):(\d+)", address)
    if not found:
        return
    try:
        socket.create_connection((found[1], int(found[2])), ANSWER_S).close()
    except OSError as error:
        raise InputError(
            f"No Ray cluster answers at '{address}' ({error}). Start one with `ray start --head`, "
            "or give --cluster local."
        ) from error


class Shares:
    """What an actor is: a worker that takes shares as tables."""

    def __init__(self, job: Any, parts: Parts) -> None:
        self._parts = parts
        self._worker = Worker(needed("ray", "--cluster").get(job))

    def __call__(self, table: Any) -> Any:
        """Do a share; return its counts as a table of one row."""
        share = [Photo(**row) for row in table.to_pylist()]
        counts = done(self._parts, self._worker, share)
        return needed("pyarrow", "--cluster").Table.from_pylist([asdict(counts)])


def _table(arrow: Any, share: Sequence[Photo]) -> Any:
    schema = arrow.schema([(name, arrow.string()) for name in _FIELDS])
    rows = [{**asdict(photo), "path": _text(photo.path)} for photo in share]
    return arrow.Table.from_pylist(rows, schema=schema)


def _text(path: str) -> str:
    """Refuse a path that is no text: it could not be told to another process."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{path!r} is no UTF-8, and cannot be sent to a cluster. Rename it."
        ) from None
    return path
