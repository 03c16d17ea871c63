"""Cleanlab's scores of the probabilities in an .npz: run by an interpreter that has cleanlab."""

from __future__ import annotations

import sys

import numpy as np
from cleanlab.rank import get_label_quality_scores

METHODS = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")

if __name__ == "__main__":
    with np.load(sys.argv[1]) as held:
        probabilities, labels = held["probabilities"], held["labels"]
    scores = {
        method: get_label_quality_scores(labels, probabilities, method=method) for method in METHODS
    }
    np.savez(sys.argv[2], **scores)
