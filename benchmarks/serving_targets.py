"""The services that are compared: `python serving_targets.py NAME BUNDLE PORT`.

All use the same network, engine and decoder. LitServe gets the image files as multipart, as ours
does, batches of the same size and the same window; as `litserve`, it has one worker with all
processors, as ours has, and as `litserve2` two workers with one thread each.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

MAX_BATCH, WINDOW_S = 8, 0.005


def open_model(path: str) -> Any:
    from pyflux_transfer.serving.model import open_bundle

    options = {"engine": "torch", "device": "cpu", "precision": "auto"}
    return open_bundle(Path(path), options, lambda _: None)


def answer(model: Any, names: list[str], images: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    from pyflux_transfer.predict import rank

    rows = rank(names, model.predict(images), model.description.classes, 3)
    return [row.to_json() for row in rows]


def ours(path: str, port: int) -> None:
    from pyflux_transfer.serving.server import run
    from pyflux_transfer.serving.settings import settings

    chosen = settings(
        bundle=path,
        port=port,
        engine="torch",
        device="cpu",
        max_batch=MAX_BATCH,
        window_ms=1000 * WINDOW_S,
        queue=512,
        log_level="warning",
    )
    sys.exit(run(chosen))


def litserve(path: str, port: int, workers: int = 1) -> None:
    import litserve as ls
    from serving_litserve import Api

    api = Api(path, max_batch_size=MAX_BATCH, batch_timeout=WINDOW_S)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=workers, timeout=60)
    server.run(host="127.0.0.1", port=port, log_level="warning", generate_client_file=False)


def litserve2(path: str, port: int) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    litserve(path, port, workers=2)


def plain(path: str, port: int) -> None:
    import uvicorn
    from serving_plain import make_app

    uvicorn.run(make_app(path), host="127.0.0.1", port=port, log_level="warning")


TARGETS = {"ours": ours, "litserve": litserve, "litserve2": litserve2, "plain": plain}

if __name__ == "__main__":
    TARGETS[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
