"""The service on Ray Serve: the same application, in as many replicas as are needed.

Each replica is what `pyflux-transfer serve` runs behind its socket: the routes, the decoders, the
worker process that has the network. Ray's proxy holds the connections and shares requests out; it
does not know the limits of time that our own server keeps on slow senders and idle connections, so
a proxy that faces the public belongs in front.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pyflux_transfer.cluster.optional import needed
from pyflux_transfer.cluster.photos import address, is_address
from pyflux_transfer.errors import BundleError, InputError, ServiceError
from pyflux_transfer.storage import cache_folder, replacing

NAME = "pyflux-transfer"
ONGOING = 32  # requests a replica is at or has waiting, above which the next replica is asked


def deployment(
    bundle: str | Path,
    *,
    replicas: int | tuple[int, int] = 1,
    cpus: float = 1.0,
    gpus: float = 0.0,
    ongoing: int = ONGOING,
    target: float | None = None,
    name: str = NAME,
    **settings: Any,
) -> Any:
    """Return the Ray Serve application that answers as `pyflux-transfer serve` does.

    `bundle` is a path that every node can read, or an address (`s3://…`) from which each fetches
    it. `replicas` is a number, or the least and the most between which Ray scales: there is one
    more where replicas have more than `target` requests under way, by default half of `ongoing`,
    which is the most that one takes. A replica takes `cpus` and `gpus` of its node, which may be
    a part of one (`gpus=0.25`). `settings` are the service's, as `serve --help` tells them
    (`api_keys=`, `max_images=` …). Raises InputError for settings that cannot be.

    Run it: `serve.run(deployment("bees.safetensors", replicas=(1, 8)))`.
    """
    serve = needed("ray.serve", "Serving on a cluster")
    from pyflux_transfer.serving.settings import settings as checked

    least, most = (replicas, replicas) if isinstance(replicas, int) else replicas
    if not 0 <= least <= most or most < 1:
        raise InputError(f"replicas must be a number, or the least and the most; got {replicas}.")
    if cpus < 0 or gpus < 0 or ongoing < 1:
        raise InputError("cpus and gpus must not be below 0, ongoing not below 1.")
    place = address(str(bundle))
    given = {"decode_threads": max(math.ceil(cpus), 1), **settings}
    checked(bundle=place, **given)  # what cannot be is told here, not in a replica's log
    scaling: dict[str, Any] = {"num_replicas": most}
    if least != most:
        scaling = {
            "autoscaling_config": {
                "min_replicas": least,
                "max_replicas": most,
                "target_ongoing_requests": target or max(ongoing / 2, 1),
            }
        }

    def build() -> Any:
        return application(place, given)

    replica = serve.ingress(build)()  # which knows a builder by its being a plain function
    return serve.deployment(
        replica,
        name=name,
        max_ongoing_requests=ongoing,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus},
        **scaling,
    ).bind()


def app(given: dict[str, Any]) -> Any:
    """Return `deployment(**given)`: what `serve run` and Ray's configuration files call.

    `serve run pyflux_transfer.cluster.serve:app bundle=bees.safetensors replicas=[1,8]`; numbers
    and lists may be text there.
    """
    return deployment(**{name: _read(value) for name, value in given.items()})


def _read(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        found = json.loads(value)
    except ValueError:
        return value
    return found if isinstance(found, (int, float, list, bool)) else value


def application(bundle: str, given: dict[str, Any]) -> Any:
    """Return a replica's ASGI application; it starts when the network is ready to answer."""
    from pyflux_transfer.serving.app import create_app
    from pyflux_transfer.serving.settings import settings

    app = create_app(settings(bundle=fetched(bundle), **given))
    service, running = app.state.service, app.router.lifespan_context

    @asynccontextmanager
    async def ready(inner: Any) -> AsyncIterator[None]:
        async with running(inner):
            await service.pool.current.settled.wait()
            if service.failure:
                raise ServiceError(service.failure)
            yield

    app.router.lifespan_context = ready
    return app


def fetched(bundle: str) -> Path:
    """Return a bundle's path, of a copy in the cache where it lies behind an address.

    Raises BundleError where it cannot be had.
    """
    if not is_address(bundle):
        return Path(bundle)
    fsspec = needed("fsspec", "A bundle at an address")
    try:
        with fsspec.open(bundle, "rb") as stream:
            data: bytes = stream.read()
    except (OSError, ValueError) as error:
        raise BundleError(f"{bundle} cannot be read: {error}.") from error
    name = f"{hashlib.sha256(data).hexdigest()[:32]}.safetensors"
    target = cache_folder() / "bundles" / name
    if not target.exists():
        with replacing(target) as temporary:
            temporary.write_bytes(data)
    return target
