"""The words by which people call training, validation and test images."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

TRAIN, VALID, TEST = SPLITS = ("train", "valid", "test")
_WORDS = {
    "train": TRAIN, "training": TRAIN,
    "val": VALID, "valid": VALID, "validation": VALID, "validate": VALID, "validating": VALID,
    "dev": VALID, "test": TEST, "testing": TEST,
}  # fmt: skip
# Said of a split, but not clear enough to be taken for one; and what stands beside such words.
_MEANT = {*_WORDS, "trn", "tst", "trainval", "eval", "evaluation", "holdout", "unlabeled"}
_BESIDE = {
    "data", "dataset", "file", "folder", "image", "images", "img", "imgs", "jpg", "photo", "photos",
    "pic", "pics", "picture", "pictures", "png", "set", "split", "subset",
}  # fmt: skip


def split_of(name: str) -> str | None:
    """Return the split that a name says: whatever its case, blanks around it, a plural too."""
    word = unicodedata.normalize("NFKC", name).strip().casefold()
    return _WORDS.get(word) or _WORDS.get(word.removesuffix("s"))


def may_mean_split(name: str) -> bool:
    """Tell whether a name looks like a split's: train_images, "Test set", 01-val, testdata."""
    letters = "".join(re.findall(r"[a-z]+", unicodedata.normalize("NFKC", name).casefold()))
    return any(
        (letters.startswith(word) and _made_of_beside(letters[len(word) :]))
        or (letters.endswith(word) and _made_of_beside(letters[: -len(word)]))
        for word in _MEANT
    )  # fmt: skip


def differ_in_split(names: Iterable[str]) -> bool:
    """Tell whether names are one but for the split in them: seg_train and seg_test."""
    found = []
    for name in names:
        words = re.findall(r"[^\W\d_]+|\d+", unicodedata.normalize("NFKC", name).casefold())
        splits = [word for word in words if split_of(word)]
        if len(splits) != 1:
            return False
        words.remove(splits[0])
        found.append((tuple(words), split_of(splits[0])))
    return len({rest for rest, _ in found}) == 1 and len({split for _, split in found}) > 1


def _made_of_beside(letters: str) -> bool:
    """Tell whether letters are words that stand beside a split's name, one after another."""
    return letters in ("", "s") or any(
        letters.startswith(word) and _made_of_beside(letters[len(word) :]) for word in _BESIDE
    )
