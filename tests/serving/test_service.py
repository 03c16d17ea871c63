"""What requests share while their photos are decoded."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pyflux_transfer.networks.preprocessing import Preprocessing
from pyflux_transfer.serving.service import Service
from pyflux_transfer.serving.settings import Settings
from pyflux_transfer.serving.uploads import Upload

LONG_S = 60.0


class Slots:
    """What decoding needs of a lease."""

    client = ""
    description = SimpleNamespace(preprocessing=Preprocessing(resize=40, crop=32))

    def fill(
        self, _: int, submit: Callable[..., Future[Any]], load: Callable[..., Any]
    ) -> asyncio.Future[Any]:
        return asyncio.wrap_future(submit(load, np.zeros((32, 32, 3), np.uint8)))


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service(Settings(bundle=Path("none"), decode_threads=2, decode_s=LONG_S))
    yield made
    made.threads.close()
    made.decoders.close()


def png(width: int, height: int) -> Upload:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (200, 50, 50)).save(stream, "PNG")
    return Upload("photo.png", stream.getvalue())


def test_small_photos_are_answered_while_heavy_ones_fill_their_lane(service: Service) -> None:
    heavy, small, budget = png(4000, 3000), png(64, 48), service.decoders.budget
    assert isinstance(heavy.data, bytes)
    assert len(heavy.data) < 100_000

    def decode(upload: Upload) -> asyncio.Task[None]:
        until = time.monotonic() + LONG_S
        return asyncio.create_task(service._decode([upload], Slots(), until))  # type: ignore[arg-type]

    async def both() -> None:
        with budget.share(budget.limit, time.monotonic()):  # so that no heavy one gets on
            waiting = [decode(heavy) for _ in range(8)]
            for _ in range(4):
                await asyncio.wait_for(decode(small), LONG_S)
            assert not any(task.done() for task in waiting)
        await asyncio.wait_for(asyncio.gather(*waiting), LONG_S)

    asyncio.run(both())
    assert budget.used == 0
