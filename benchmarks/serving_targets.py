"""The three services that are compared: `python serving_targets.py NAME BUNDLE PORT`.

All three use the same network, engine, decoder and thread count (OMP_NUM_THREADS). LitServe gets
the image files as multipart, as ours does, as many workers (WORKERS), batches of the same size, and
the same window.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

MAX_BATCH, WINDOW_S = 8, 0.005
WORKERS = int(os.environ.get("WORKERS", "1"))


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
        workers=WORKERS,
        log_level="warning",
    )
    sys.exit(run(chosen))


def litserve(path: str, port: int) -> None:
    import litserve as ls
    from serving_litserve import Api

    api = Api(path, max_batch_size=MAX_BATCH, batch_timeout=WINDOW_S)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=WORKERS, timeout=60)
    server.run(host="127.0.0.1", port=port, log_level="warning", generate_client_file=False)


def plain(path: str, port: int) -> None:
    import uvicorn
    from serving_plain import make_app

    uvicorn.run(make_app(path), host="127.0.0.1", port=port, log_level="warning")


TARGETS = {"ours": ours, "litserve": litserve, "plain": plain}

if __name__ == "__main__":
    TARGETS[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
