from __future__ import annotations

import hashlib
from pathlib import Path

import datasets
import pytest

import pyflux_transfer as pft
from tests import photos

pytestmark = [pytest.mark.ecosystem, pytest.mark.filterwarnings("default")]

CLASSES = ("red", "green", "blue")  # not as they sort


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photos.write(tmp_path / "photos", dict.fromkeys(CLASSES, 6))


@pytest.fixture
def dataset(folder: Path) -> datasets.Dataset:
    """Images as bytes, with named classes."""
    paths = sorted(folder.rglob("*.png"))
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    return datasets.Dataset.from_dict(
        {
            "image": [{"bytes": path.read_bytes(), "path": None} for path in paths],
            "label": [path.parent.name for path in paths],
        },
        features=datasets.Features(features),
    )


def test_a_dataset_is_read_by_its_bytes_in_the_order_of_its_classes(
    dataset: datasets.Dataset, folder: Path
) -> None:
    found = pft.scan(dataset).train
    assert found.classes == CLASSES
    assert found.counts == dict.fromkeys(CLASSES, 6)
    files = [hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*.png"))]
    assert [sample.digest for sample in found.samples] == files
    assert found.samples[3].path == Path("row 3")


def test_features_that_were_kept_of_files_serve_a_dataset(
    dataset: datasets.Dataset, folder: Path
) -> None:
    model = pft.load("tiny", engine="fake").with_head(CLASSES)
    model.fit(folder, quality="head")
    run = model.fit(dataset, quality="head")
    assert run.seconds.get("trunk", 0.0) == 0.0


def test_keys_are_splits(dataset: datasets.Dataset) -> None:
    parts = dataset.train_test_split(0.5, stratify_by_column="label", seed=0)
    more = datasets.DatasetDict({**parts, "validation": parts["test"]})
    assert [len(part.samples) for part in pft.scan(more).parts] == [9, 9, 9]
    model = pft.load("tiny", engine="fake").with_head(CLASSES)
    model.fit(more)
    assert model.evaluate(more).count == 9
    assert len(model.predict(parts["test"])) == 9
    assert model.predict(dataset[0]["image"])[0].label in CLASSES
    assert len(model.predict(dataset["image"])) == 18
    assert len(pft.check(dataset, "tiny", engine="fake").photos) == 18
    with pytest.raises(pft.InputError, match="The key 'extra' of the dataset means no split"):
        pft.scan(datasets.DatasetDict({"train": dataset, "extra": dataset}))
    with pytest.raises(pft.InputError, match="'dev' of the dataset means valid, as 'validation'"):
        pft.scan(datasets.DatasetDict({"train": dataset, "validation": dataset, "dev": dataset}))


def test_a_test_without_labels_is_left_out_and_told(dataset: datasets.Dataset) -> None:
    secret = dataset.map(lambda _: {"label": -1})
    found = pft.scan(datasets.DatasetDict({"train": dataset, "test": secret}))
    assert found.test is None
    assert "the test images have no labels and are left out" in found.notes
    with pytest.raises(pft.InputError, match="row 0: path and label must not be empty"):
        pft.scan(secret)


def test_files_formats_and_other_columns(dataset: datasets.Dataset, folder: Path) -> None:
    paths = sorted(map(str, folder.rglob("*.png")))
    by_path = dataset.remove_columns("image").add_column("photo", paths)
    assert len(pft.scan(by_path).train.samples) == 18
    files = by_path.rename_column("photo", "image").cast_column("image", datasets.Image())
    digests = [sample.digest for sample in pft.scan(dataset).train.samples]
    assert [sample.digest for sample in pft.scan(files).train.samples] == digests
    numbers = dataset.with_format("numpy")
    assert [sample.digest for sample in pft.scan(numbers).train.samples] == digests
    two = files.add_column("thumbnail", paths).cast_column("thumbnail", datasets.Image())
    assert len(pft.scan(two).train.samples) == 18
    named = two.rename_columns({"image": "a", "thumbnail": "b"})
    with pytest.raises(pft.InputError, match="lacks the column 'path'"):
        pft.scan(named)
    assert len(pft.scan(pft.Table(named, path="a")).train.samples) == 18


def test_a_file_of_the_library_keeps_the_names_of_classes(
    dataset: datasets.Dataset, tmp_path: Path
) -> None:
    dataset.to_parquet(tmp_path / "hub.parquet")
    found = pft.scan(tmp_path / "hub.parquet").train
    assert found.classes == CLASSES
    digests = [sample.digest for sample in pft.scan(dataset).train.samples]
    assert [sample.digest for sample in found.samples] == digests


def test_a_stream_and_an_image_that_is_missing_are_told(dataset: datasets.Dataset) -> None:
    with pytest.raises(pft.InputError, match=r"IterableDataset.*streaming=False"):
        pft.scan(dataset.to_iterable_dataset())
    rows = [*dataset.cast_column("image", datasets.Image(decode=False))]
    rows[5]["image"] = None
    broken = datasets.Dataset.from_list(rows, features=dataset.features)
    with pytest.raises(pft.InputError, match=r"1 of 18 files .*row 5: it is NoneType"):
        pft.scan(broken)
    assert len(pft.scan(broken, max_skipped=0.1).train.samples) == 17
