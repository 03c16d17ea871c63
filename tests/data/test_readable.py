"""The memory of images that were seen to decode."""

from __future__ import annotations

import os
from pathlib import Path

from pyflux_transfer.data import readable


def test_readable_images_are_remembered(tmp_path: Path) -> None:
    folder = tmp_path / "features"
    one, two = "ab" * 32, "cd" * 32
    readable.remember(folder, [one])
    readable.remember(folder, [two])
    assert readable.known(folder) == {one, two}
    readable.forget(folder)
    assert readable.known(folder) == set()


def test_what_another_decoder_read_is_not_known_and_is_forgotten_too(tmp_path: Path) -> None:
    (tmp_path / "readable.bin").write_bytes(bytes(32))
    (tmp_path / "readable-1.bin").write_bytes(bytes(32))
    assert readable.known(tmp_path) == set()
    readable.forget(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_memory_cut_short_goes_on_whole(tmp_path: Path) -> None:
    one, two, three = "ab" * 32, "cd" * 32, "ef" * 32
    readable.remember(tmp_path, [one, two])
    (file,) = tmp_path.glob("readable-*.bin")
    os.truncate(file, 50)
    assert readable.known(tmp_path) == {one}
    readable.remember(tmp_path, [three])
    assert readable.known(tmp_path) == {one, three}


def test_a_folder_that_cannot_be_written_costs_only_the_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    readable.remember(tmp_path / "file", ["ab" * 32])
    assert readable.known(tmp_path / "file") == set()
