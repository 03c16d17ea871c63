"""Ours, and recipes that are published, on the same network and weights.

Each takes the folders of training and test photos and returns probabilities (N, classes) for the
test photos in sorted order, of classes in sorted order.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import pyflux_transfer as pft
from pyflux_transfer import Classifier

Probabilities = NDArray[np.float32]
ARCHITECTURE = "efficientnet_lite0"


def headed(train: Path, seed: int) -> Classifier:
    """Return the network with an untrained head for the folder's classes."""
    classes = sorted(place.name for place in train.iterdir())
    return pft.load(ARCHITECTURE, engine="torch").with_head(classes, seed=seed)


def answers(model: Classifier, test: Path) -> Probabilities:
    """Return the probabilities of the test photos, in sorted order."""
    order = {name: i for i, name in enumerate(model.classes)}
    found = model.predict(sorted(test.rglob("*.*")), top=len(order))
    rows = np.zeros((len(found), len(order)), np.float32)
    for row, answer in zip(rows, found, strict=True):
        for label, probability in answer.top:
            row[order[label]] = probability
    return rows


def ours(train: Path, test: Path, seed: int) -> Probabilities:
    """No option at all."""
    model = headed(train, seed)
    model.fit(train, seed=seed, cache=False)
    return answers(model, test)


def head(train: Path, test: Path, seed: int) -> Probabilities:
    """The solved head alone."""
    model = headed(train, seed)
    model.fit(train, quality="head", seed=seed, cache=False)
    return answers(model, test)


def regression(train: Path, test: Path, seed: int) -> Probabilities:
    """scikit-learn's LogisticRegressionCV on the same features, standardised, five folds."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = headed(train, seed)
    (x, labels, _), (unseen, _, paths) = (
        model.features(folder, cache=False) for folder in (train, test)
    )
    flat, unseen = x.reshape(len(x), -1), unseen.reshape(len(unseen), -1)
    folds = min(5, int(np.unique(labels, return_counts=True)[1].min()))
    solver = LogisticRegressionCV(
        Cs=8,
        cv=max(folds, 2),
        scoring="neg_log_loss",
        max_iter=2000,
        random_state=seed,
        l1_ratios=(0,),
        use_legacy_attributes=False,
    )
    found = make_pipeline(StandardScaler(), solver).fit(flat, labels).predict_proba(unseen)
    order = np.argsort([str(Path(path)) for path in paths])
    return np.asarray(found[order], np.float32)


def tutorial(train: Path, test: Path, seed: int) -> Probabilities:
    """The published transfer learning tutorial: the head by SGD, 25 epochs, batches of 4."""
    model = headed(train, seed)
    model.fit(
        train, valid=0.2, epochs=25, lr=1e-3, optimizer="sgd", momentum=0.9, schedule="step",
        weight_decay=0.0, batch_size=4, seed=seed, cache=False,
    )  # fmt: skip
    return answers(model, test)


def keras(train: Path, test: Path, seed: int) -> Probabilities:
    """Keras' guide: the head by Adam for 20 epochs, then the whole network at 1e-5 for 10."""
    model = headed(train, seed)
    model.fit(train, valid=0.2, epochs=20, lr=1e-3, optimizer="adam", weight_decay=0.0, seed=seed,
              augment="flip", views=4, cache=False)  # fmt: skip
    model.fit(train, valid=0.2, cut=0, epochs=10, lr=1e-5, lr_decay=1.0, optimizer="adam",
              weight_decay=0.0, freeze_bn=True, augment="flip", seed=seed, cache=False)  # fmt: skip
    return answers(model, test)


def elsewhere(python: Path, script: str) -> Callable[[Path, Path, int], Probabilities]:
    """Return the recipe of a script beside this file, run by an interpreter that has its peer."""

    def run(train: Path, test: Path, seed: int) -> Probabilities:
        path = Path(__file__).with_name(script)
        command = [str(python), str(path), str(train), str(test), str(seed)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return np.array(json.loads(done.stdout.splitlines()[-1]), np.float32)

    return run
