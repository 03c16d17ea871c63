"""A loader without an engine: a model that tells red from green from blue, and can be broken.

The "bundle" is a JSON file. `delay_s` is slept for each call. A file `<bundle>.hold` holds every
call for as long as it exists. `scale` multiplies the answers, `how` alters the preprocessing,
`belonging` is what is told of its threshold. The image's mean colour decides, so each answer can be
checked; it belongs the more, the less grey it is.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyflux_transfer.data.decode import Pixels
from pyflux_transfer.data.overlay import overlay, small_png
from pyflux_transfer.errors import BundleError
from pyflux_transfer.networks.preprocessing import Preprocessing
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.predict import softmax
from pyflux_transfer.serving.model import Description, Report

NAME = "tests.serving.loaders:fake"
PLAIN = Preprocessing(resize=8, crop=8, mean=(0, 0, 0), std=(1, 1, 1))
CLASSES = ("red", "green", "blue")
# Colours that break the worker, in 8-bit RGB.
CRASH, HANG, FAIL, NAN = (13, 13, 13), (17, 17, 17), (19, 19, 19), (23, 23, 23)


def expected(images: Array) -> Array:
    return softmax(4 * images.mean(axis=(2, 3)))


@dataclass
class Fake:
    description: Description
    path: Path
    delay_s: float
    lanes: int
    scale: float = 1.0

    def predict(self, images: Array) -> Array:
        while Path(f"{self.path}.hold").exists():
            time.sleep(0.005)
        time.sleep(self.delay_s)
        colours = {tuple(np.rint(255 * image[:, 0, 0]).astype(int).tolist()) for image in images}
        if CRASH in colours:
            os.kill(os.getpid(), signal.SIGKILL)
        if HANG in colours:
            time.sleep(3600)
        if FAIL in colours:
            raise RuntimeError("this colour cannot be computed")
        if NAN in colours:
            return np.full((len(images), len(CLASSES)), np.nan, np.float32)
        return np.asarray(self.scale * expected(images), np.float32)

    def answer(self, images: Array) -> tuple[Array, Array]:
        means = images.mean(axis=(2, 3))
        return self.predict(images), np.asarray(np.ptp(means, axis=1), np.float32)

    def explain(self, pixels: Pixels, _answers: Array) -> list[bytes]:
        heat = np.float32([[0, 1], [0, 1]])
        return [small_png(overlay(image, heat)) for image in pixels]


def fake(path: Path, options: dict[str, str], report: Report) -> Fake:
    row = json.loads(path.read_text())
    report("installing")
    time.sleep(row.get("load_s", 0.0))
    if row.get("die_at_start"):
        os.kill(os.getpid(), signal.SIGKILL)
    if row.get("broken"):
        raise BundleError(f"{path.name} is damaged: {row['broken']}.")
    plain = Preprocessing(
        **{**asdict(PLAIN), **{k: _tuple(v) for k, v in row.get("how", {}).items()}}
    )
    engine = sorted({"torch", "juliacall"} & set(sys.modules))
    description = Description(
        id=row.get("id", "one"),
        architecture="fake",
        engine="numpy",
        classes=tuple(row.get("classes", CLASSES)),
        preprocessing=plain,
        info={"options": options, "loaded": engine},
        belonging=row.get("belonging"),
    )
    return Fake(
        description, path, row.get("delay_s", 0.0), row.get("lanes", 1), row.get("scale", 1)
    )


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
