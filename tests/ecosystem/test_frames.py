from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner

import pyflux_transfer as pft
from pyflux_transfer.cli.app import app
from tests import photos

pytestmark = [pytest.mark.ecosystem, pytest.mark.filterwarnings("default")]

CLASSES = ("blue", "green", "red")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photos.write(tmp_path / "photos", dict.fromkeys(CLASSES, 6))


@pytest.fixture
def frame(folder: Path) -> pd.DataFrame:
    paths = sorted(folder.rglob("*.png"))
    return pd.DataFrame({"path": map(str, paths), "label": [p.parent.name for p in paths]})


KINDS: dict[str, Callable[[pd.DataFrame], Any]] = {
    "pandas": lambda frame: frame,
    "pandas, arrow's types": lambda frame: frame.convert_dtypes(dtype_backend="pyarrow"),
    "pandas, categories": lambda frame: frame.astype({"label": "category"}),
    "polars": pl.from_pandas,
    "polars, lazy": lambda frame: pl.from_pandas(frame).lazy(),
    "polars, categories": lambda f: pl.from_pandas(f.astype({"label": "category"})),
    "arrow": pa.Table.from_pandas,
    "named": lambda f: pft.Table(f.rename(columns={"path": "p", "label": "l"}), "p", "l"),
    "images": lambda f: f.assign(path=[Path(p).read_bytes() for p in f["path"]]),
    "images in arrow": lambda f: pa.table(
        {"image": [Path(p).read_bytes() for p in f["path"]], "label": list(f["label"])}
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_is_read_as_the_folder_is(kind: str, folder: Path, frame: pd.DataFrame) -> None:
    expected, found = pft.scan(folder).train, pft.scan(KINDS[kind](frame)).train
    assert found.classes == expected.classes
    assert [(s.digest, s.label) for s in found.samples] == [
        (s.digest, s.label) for s in expected.samples
    ]


def test_everything_that_takes_photos_takes_a_frame(frame: pd.DataFrame) -> None:
    model = pft.load("tiny", engine="fake").with_head(CLASSES)
    held = frame.iloc[::3]
    run = model.fit(pl.from_pandas(frame), valid=held)
    assert run.estimate
    assert model.evaluate(held).count == 6
    answers = model.predict(held.drop(columns="label"))
    assert [answer.name for answer in answers] == list(held["path"])
    assert len(model.predict(held["path"])) == 6
    assert model.features(frame)[1] == list(frame["label"])
    assert len(pft.check(frame, "tiny", engine="fake").photos) == 18
    assert model.fit(frame, valid=frame, epochs=1).best.valid_accuracy is not None
    (best,) = pft.compare(frame, ["tiny"], engine="fake")
    assert best.estimate


def test_splits_groups_and_labels_of_other_types(frame: pd.DataFrame) -> None:
    numbers = frame.assign(label=frame["label"].map({"blue": 2, "green": 10, "red": 1}))
    assert pft.scan(numbers).train.classes == ("1", "2", "10")
    assert pft.scan(numbers.astype({"label": "Int64"})).train.classes == ("1", "2", "10")
    assert pft.scan(frame.assign(label=frame["label"] == "red")).train.classes == ("False", "True")
    order = pd.CategoricalDtype(["red", "none", "green", "blue"])
    assert pft.scan(frame.astype({"label": order})).train.classes == ("red", "green", "blue")
    kind = pl.Enum(["red", "green", "blue"])
    enum = pl.from_pandas(frame).with_columns(pl.col("label").cast(kind))
    assert pft.scan(enum).train.classes == ("red", "green", "blue")
    split = frame.assign(split=["train", None, "test"] * 6, group=list(range(9)) * 2)
    parts = pft.scan(split)
    assert [len(part.samples) for part in parts.parts] == [12, 6]
    assert set(parts.train.groups) == {"0", "1", "3", "4", "6", "7"}


@pytest.mark.parametrize("empty", [None, float("nan"), pd.NA, pd.NaT])
def test_a_row_without_a_label_is_told(empty: Any, frame: pd.DataFrame) -> None:
    frame = frame.astype(object)
    frame.loc[4, "label"] = empty
    with pytest.raises(pft.InputError, match="the pandas frame, row 4: path and label must not be"):
        pft.scan(frame)


def test_what_is_no_frame_is_told(frame: pd.DataFrame) -> None:
    with pytest.raises(pft.InputError, match="is a Series, which has no columns"):
        pft.scan(frame["label"])
    with pytest.raises(pft.InputError, match="polars frame lacks the column 'label'"):
        pft.scan(pl.DataFrame({"path": ["x"]}))


def test_pillow_images_and_equal_names_of_columns(frame: pd.DataFrame) -> None:
    images = frame.assign(image=[Image.open(path) for path in frame["path"]]).drop(columns="path")
    assert pft.scan(images).train.counts == dict.fromkeys(CLASSES, 6)
    twice = pd.concat([frame, frame["label"]], axis=1)
    with pytest.raises(pft.InputError, match="has the column 'label' twice"):
        pft.scan(twice)


def test_a_parquet_file_on_the_command_line(
    folder: Path, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    near = [Path(path).relative_to(folder).as_posix() for path in frame["path"]]
    frame.assign(path=near).to_parquet("near.parquet")
    frame.assign(path=[Path(p).read_bytes() for p in near]).to_parquet("inside.parquet")
    command = ["--engine", "fake"]
    for name in ("near", "inside"):
        for words in (
            ["train", f"{name}.parquet", "--arch", "tiny"],
            ["evaluate", f"{name}.safetensors", f"{name}.parquet"],
            ["predict", f"{name}.safetensors", f"{name}.parquet"],
            ["check", f"{name}.parquet", "--arch", "tiny"],
        ):
            done = CliRunner().invoke(app, [*words, *command])
            assert done.exit_code == 0, (words, done.output, done.exception)
    done = CliRunner().invoke(app, ["predict", "inside.safetensors", "inside.parquet", *command,
                                    "--out", "answers.csv"])  # fmt: skip
    assert "knows photos by their files" in str(done.exception)
    done = CliRunner().invoke(app, ["check", "near.parquet", "--arch", "tiny", *command,
                                    "--write-groups", "groups.csv"])  # fmt: skip
    assert pft.scan("groups.csv").train.counts == dict.fromkeys(CLASSES, 6)
    done = CliRunner().invoke(app, ["check", "inside.parquet", "--arch", "tiny", *command,
                                    "--write-groups", "groups.csv"])  # fmt: skip
    assert "is no file by itself" in str(done.exception)
    Path("decisions.csv").write_text("path,decision\n", "utf-8")
    for words, message in [
        (["check", "inside.parquet", "--apply", "decisions.csv"], "are inside 'inside.parquet'"),
        (
            ["next", "inside.safetensors", "inside.parquet", *command],
            "'row 0' is no file by itself",
        ),
    ]:
        done = CliRunner().invoke(app, words)
        assert message in str(done.exception)
    Path("broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(pft.InputError, match="is no Parquet file that can be read"):
        pft.scan("broken.parquet")
