from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pyflux_transfer.errors import StorageError
from pyflux_transfer.networks.tensors import Array, Shape
from pyflux_transfer.training import store
from pyflux_transfer.training.store import BESIDE_BYTES, KEY_BYTES, Store

SHAPE: Shape = (2, 3)
ROW_BYTES = 4 * 6


def key(number: int) -> bytes:
    return number.to_bytes(KEY_BYTES, "big")


def rows(*numbers: int) -> Array:
    return np.stack([np.full(SHAPE, number, np.float32) for number in numbers])


def appended(one: Store, *numbers: int) -> None:
    one.append([key(n) for n in numbers], rows(*numbers))
    one.flush()


def filled(folder: Path, *numbers: int) -> Path:
    one = Store(folder, SHAPE)
    appended(one, *numbers)
    one.close()
    return folder


def test_rows_come_back_by_key_in_any_order(tmp_path: Path) -> None:
    one = Store(tmp_path / "s", SHAPE)
    one.append([key(1), key(2)], rows(1, 2))
    one.append([key(3)], rows(3))
    np.testing.assert_array_equal(one.read([key(3), key(1), key(3)]), rows(3, 1, 3))
    assert one.read([]).shape == (0, *SHAPE)
    one.close()


def test_rows_that_lie_behind_each_other_are_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "RUN", 3)
    assert list(store._runs([4, 5, 6, 7, 2, 3, 3, 2])) == [(0, 3), (3, 4), (4, 6), (6, 7), (7, 8)]
    assert list(store._runs([])) == []
    one = Store(tmp_path / "s", SHAPE)
    one.append([key(n) for n in range(9)], rows(*range(9)))
    asked = [2, 3, 4, 5, 6, 0, 1, 8, 7, 7]
    np.testing.assert_array_equal(one.read([key(n) for n in asked]), rows(*asked))
    one.close()


def test_rows_are_there_when_it_is_opened_again(tmp_path: Path) -> None:
    again = Store(filled(tmp_path / "s", 5, 6), SHAPE)
    assert set(again.index) == {key(5), key(6)}
    again.append([key(7)], rows(7))
    np.testing.assert_array_equal(again.read([key(7), key(5)]), rows(7, 5))
    again.close()


def test_the_files_are_what_the_module_says(tmp_path: Path) -> None:
    folder = filled(tmp_path / "s", 1, 2)
    assert json.loads((folder / "meta.json").read_text()) == {"shape": [2, 3]}
    assert np.fromfile(folder / "rows.f32", np.float32).reshape(-1, *SHAPE).tolist() == (
        rows(1, 2).tolist()
    )
    assert (folder / "keys.bin").read_bytes() == key(1) + key(2)


@pytest.mark.parametrize("lost", range(1, 3 * ROW_BYTES, 7))
def test_rows_cut_short_are_dropped_and_the_rest_is_used(tmp_path: Path, lost: int) -> None:
    folder = filled(tmp_path / "s", 1, 2, 3)
    os.truncate(folder / "rows.f32", 3 * ROW_BYTES - lost)
    left = (3 * ROW_BYTES - lost) // ROW_BYTES
    again = Store(folder, SHAPE)
    assert list(again.index) == [key(n) for n in (1, 2, 3)[:left]]
    again.append([key(9)], rows(9))
    np.testing.assert_array_equal(again.read(list(again.index)), rows(*(1, 2, 3)[:left], 9))
    again.close()


@pytest.mark.parametrize("lost", range(1, 3 * KEY_BYTES, 11))
def test_keys_cut_short_are_dropped_with_their_rows(tmp_path: Path, lost: int) -> None:
    folder = filled(tmp_path / "s", 1, 2, 3)
    os.truncate(folder / "keys.bin", 3 * KEY_BYTES - lost)
    left = (3 * KEY_BYTES - lost) // KEY_BYTES
    again = Store(folder, SHAPE)
    again.append([key(9)], rows(9))
    np.testing.assert_array_equal(again.read(list(again.index)), rows(*(1, 2, 3)[:left], 9))
    again.close()


def test_a_process_killed_while_writing_leaves_whole_rows(tmp_path: Path) -> None:
    program = f"""
        import os, sys
        import numpy as np
        from pathlib import Path
        from pyflux_transfer.training.store import Store
        store, i = Store(Path({str(tmp_path / "s")!r}), (1000,)), 0
        while True:
            keys = [n.to_bytes(32, "big") for n in range(i, i + 7)]
            store.append(keys, np.repeat(np.arange(i, i + 7, dtype=np.float32)[:, None], 1000, 1))
            i += 7
            if i == 70:
                store.flush()
                print("going", flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"going\n"
        process.kill()
    again = Store(tmp_path / "s", (1000,))
    assert len(again.index) >= 70
    for k in list(again.index)[:: max(len(again.index) // 50, 1)]:
        assert (again.read([k]) == int.from_bytes(k, "big")).all()
    again.close()


@pytest.mark.parametrize("limit", [0, 1, ROW_BYTES, 3 * ROW_BYTES - 5, 3 * ROW_BYTES + 40])
def test_a_full_disk_is_told_and_loses_no_earlier_row(
    tmp_path: Path, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = filled(tmp_path / "s", 1, 2)
    again = Store(folder, SHAPE)
    room = limit

    def write(file: object, data: memoryview) -> None:
        nonlocal room
        real(file, data[:room])  # type: ignore[arg-type]
        room -= len(data)
        if room < 0:
            raise OSError(28, "No space left on device")

    real = store.write_all
    with monkeypatch.context() as patch:
        patch.setattr(store, "write_all", write)
        with pytest.raises(StorageError, match=r"No space left on device.*cache --clear"):
            appended(again, 3, 4, 5)
    again.close()
    after = Store(folder, SHAPE)
    assert {key(1), key(2)} <= set(after.index) <= {key(1), key(2), key(3), key(4), key(5)}
    kept = [int.from_bytes(k, "big") for k in after.index]
    np.testing.assert_array_equal(after.read(list(after.index)), rows(*kept))
    after.close()


def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="PYFLUX_CACHE"):
        Store(tmp_path / "file" / "s", SHAPE)


def test_a_store_that_was_cut_meanwhile_is_told(tmp_path: Path) -> None:
    one = Store(filled(tmp_path / "s", 1, 2), SHAPE)
    os.truncate(tmp_path / "s" / "rows.f32", 3)
    with pytest.raises(StorageError, match="changed by another program"):
        one.read([key(2)])
    one.close()


def test_a_flush_that_failed_midway_is_made_good_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Store(tmp_path / "s", SHAPE)
    one.append([key(1), key(2)], rows(1, 2))
    real = store.write_all

    def write(file: object, data: memoryview) -> None:
        real(file, data[:5])  # type: ignore[arg-type]
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store, "write_all", write)
        with pytest.raises(StorageError):
            one.flush()
    one.close()
    again = Store(tmp_path / "s", SHAPE)
    assert again.damaged([key(1), key(2)]) == []
    np.testing.assert_array_equal(again.read([key(2), key(1)]), rows(2, 1))
    again.close()


def zeroed(folder: Path) -> None:
    (folder / "rows.f32").write_bytes(bytes(3 * ROW_BYTES))


def rotated(folder: Path) -> None:
    keys = (folder / "keys.bin").read_bytes()
    (folder / "keys.bin").write_bytes(keys[KEY_BYTES:] + keys[:KEY_BYTES])


@pytest.mark.parametrize("harm", [zeroed, rotated])
def test_damaged_rows_are_known_forgotten_and_added_anew(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    folder = filled(tmp_path / "s", 1, 2, 3)
    harm(folder)
    one = Store(folder, SHAPE)
    assert set(one.damaged(list(one.index))) == {key(1), key(2), key(3)}
    assert one.index == {}
    one.append([key(2)], rows(2))
    one.close()
    again = Store(folder, SHAPE)
    assert key(2) not in again.damaged(list(again.index))
    np.testing.assert_array_equal(again.read([key(2)]), rows(2))
    again.close()


@pytest.mark.parametrize("name", ["rows.f32", "sums.bin", "keys.bin", "meta.json", ""])
def test_a_symbolic_link_is_not_written_through(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    folder = tmp_path / "s"
    if name:
        folder.mkdir()
        victim.write_text("precious")
        (folder / name).symlink_to(victim)
    else:
        victim.mkdir()
        folder.symlink_to(victim)
    with pytest.raises(StorageError, match="Cannot use the feature cache"):
        Store(folder, SHAPE)
    assert victim.read_text() == "precious" if name else not list(victim.iterdir())


def test_a_lock_that_is_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic link"):
        store.lock(tmp_path / "s")


def test_an_unused_store_closes_its_files(tmp_path: Path) -> None:
    one = Store(tmp_path / "s", SHAPE)
    rows_file = one._rows
    del one
    assert rows_file.closed


def used(folder: Path, *numbers: int, at: float) -> None:
    os.utime(filled(folder, *numbers) / "meta.json", (at, at))


def test_entries_are_listed_the_one_used_longest_ago_first(tmp_path: Path) -> None:
    used(tmp_path / "new", 1, at=2000)
    used(tmp_path / "old", 1, 2, at=1000)
    old, new = store.entries(tmp_path)
    assert (old.name, old.shape, old.rows, old.used) == ("old", SHAPE, 2, 1000)
    assert old.size_bytes == 2 * (ROW_BYTES + BESIDE_BYTES)
    assert new.name == "new"
    Store(tmp_path / "old", SHAPE).close()
    assert [entry.name for entry in store.entries(tmp_path)] == ["new", "old"]


def test_what_a_crash_has_left_can_be_listed_and_cleared(tmp_path: Path) -> None:
    filled(tmp_path / "empty", 1)
    (tmp_path / "empty" / "meta.json").write_text("")
    filled(tmp_path / "other", 1)
    (tmp_path / "other" / "meta.json").write_text("[]")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "meta.json").write_text('{"shape": [1]}')
    assert {entry.shape for entry in store.entries(tmp_path)} == {()}
    assert store.clear(tmp_path) == 2 * (ROW_BYTES + BESIDE_BYTES)
    assert not (tmp_path / "empty").exists()


def test_no_folder_is_no_entries(tmp_path: Path) -> None:
    assert store.entries(tmp_path / "nowhere") == []
    assert store.clear(tmp_path / "nowhere") == 0
    assert store.stored(tmp_path / "nowhere") == set()


ONE = ROW_BYTES + BESIDE_BYTES


def three(folder: Path) -> None:
    for age, name in enumerate(("c", "b", "a"), start=1):
        used(folder / name, 1, 2, at=1000 - age)


@pytest.mark.parametrize(
    ("needed", "limit", "keep", "fits", "left"),
    [
        (0, 6 * ONE, "", True, "abc"),
        (1, 6 * ONE, "", True, "bc"),  # a was used longest ago
        (2 * ONE, 6 * ONE, "", True, "bc"),
        (2 * ONE + 1, 6 * ONE, "", True, "c"),
        (6 * ONE, 6 * ONE, "", True, ""),
        (6 * ONE + 1, 6 * ONE, "", False, "abc"),
        (2 * ONE, 6 * ONE, "a", True, "ac"),
        (4 * ONE, 6 * ONE, "a", True, "a"),
        (4 * ONE + 1, 6 * ONE, "a", False, "abc"),
    ],
)
def test_room_is_made_at_the_cost_of_those_used_longest_ago(
    tmp_path: Path, needed: int, limit: int, keep: str, fits: bool, left: str
) -> None:
    three(tmp_path)
    assert store.make_room(tmp_path, needed, limit, keep) is fits
    assert sorted(entry.name for entry in store.entries(tmp_path)) == list(left)


def test_a_store_being_written_is_neither_cleared_nor_evicted(tmp_path: Path) -> None:
    three(tmp_path)
    with store.lock(tmp_path / "a"):
        assert not store.make_room(tmp_path, 6 * ONE, 6 * ONE)
        assert [entry.name for entry in store.entries(tmp_path)] == ["a"]
        assert store.clear(tmp_path) == 0
    assert store.clear(tmp_path) == 2 * ONE
