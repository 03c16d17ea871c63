"""Where things are kept between runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyflux_transfer import storage
from pyflux_transfer.errors import InputError, StorageError


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYFLUX_CACHE", str(tmp_path))
    assert storage.features_folder() == tmp_path / "features"
    monkeypatch.delenv("PYFLUX_CACHE")
    assert "pyflux-transfer" in str(storage.cache_folder())


def write(path: Path, text: str) -> None:
    with storage.replacing(path) as temporary:
        temporary.write_text(text)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write(path, "old")
    with pytest.raises(TypeError), storage.replacing(path) as temporary:
        temporary.write_text(None)  # type: ignore[arg-type]
    assert path.read_text() == "old"
    write(path, "new")
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def killed(path: Path) -> None:
    """Let another process begin to write, and end it amid that."""
    code = f"""
import os, pathlib
from pyflux_transfer import storage
with storage.replacing(pathlib.Path({str(path)!r})) as temporary:
    temporary.write_text("half")
    os._exit(1)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 1


@pytest.mark.parametrize("name", ["model.safetensors", "x" * 240])
def test_what_a_killed_writer_left_goes_with_the_next_one(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    killed(path)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".")
    other = tmp_path / f".other{name[-20:]}.{os.getpid()}.abcdefgh"
    other.write_text("not ours")
    with storage.replacing(path) as temporary:  # of one that lives
        write(path, "new")
        assert temporary.exists()
        assert not left.exists()
    assert sorted(tmp_path.iterdir()) == sorted([other, path])


def test_a_place_that_cannot_be_written_is_told_before(tmp_path: Path) -> None:
    storage.check_writable(tmp_path / "deep" / "model.safetensors")
    assert list(tmp_path.rglob("*")) == [tmp_path / "deep"]
    (tmp_path / "file").write_text("")
    for place, says in (
        (tmp_path / "file" / "x", "Cannot write .*Choose another place"),
        (tmp_path / "deep", "it is a folder"),
        (tmp_path / ("x" * 300), "File name too long"),
    ):
        with pytest.raises(StorageError, match=says):
            storage.check_writable(place)


def test_a_file_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    code = f"""
from pyflux_transfer import storage
with storage.alone({str(path)!r}):
    print("held", flush=True)
    input()
"""
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdin
    assert other.stdout
    with other:
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(InputError, match="Another process is writing into"),
            storage.alone(path),
        ):
            pass
        other.stdin.write("\n")
    assert other.returncode == 0
    with storage.alone(path):
        path.write_text("mine")
    assert list(tmp_path.iterdir()) == [path]
