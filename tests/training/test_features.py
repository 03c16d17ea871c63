from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyflux_transfer.data.dataset import Dataset, Sample
from pyflux_transfer.data.preprocess import load
from pyflux_transfer.errors import StorageError
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.training import features, shelves, store
from pyflux_transfer.training.callbacks import Timer
from pyflux_transfer.training.features import Cache, Features, Item, extract, fingerprint, trunk_key
from tests.engines import fake
from tests.training.helpers import NOWHERE, CountingNetwork, Notes, datasets, network

PLAIN = fake.TINY.preprocessing
CUTS = ["stem", "stage1", "stage2", "head"]  # the stem is unit 0


def read(item: Item) -> Array:
    return load(item.sample.path, PLAIN)


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    return [Item(sample) for sample in datasets(tmp_path / "photos")[0].samples]


def get(
    net: CountingNetwork, items: Sequence[Item], cache: Cache = NOWHERE, **changes: Any
) -> Features:
    options = {
        "batch_size": 4, "workers": 2, "timer": Timer(), "watcher": Notes(), "title": "features",
    }  # fmt: skip
    return extract(net, PLAIN, items, read, cache, **{**options, **changes})


def everything(found: Features) -> Array:
    return found.take(range(found.count))


def wanted(net: CountingNetwork, items: Sequence[Item]) -> Array:
    return fake.FakeNetwork.embed(net, np.stack([read(item) for item in items]))


@pytest.mark.parametrize("cut", CUTS)
def test_features_are_what_the_trunk_makes_in_the_order_of_the_items(
    cut: str, items: list[Item]
) -> None:
    net = network(cut)
    found = get(net, items)
    np.testing.assert_allclose(everything(found), wanted(net, items), rtol=1e-6, atol=1e-6)
    assert found.shape == everything(found).shape[1:]
    assert found.count == len(items)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("memory_bytes", [0, 2**30])
def test_rows_from_the_file_equal_rows_from_memory(
    cut: str, memory_bytes: int, items: list[Item], tmp_path: Path
) -> None:
    net = network(cut)
    found = get(net, items, Cache(tmp_path / "kept", memory_bytes))
    pick = [5, 0, 5, 3]
    np.testing.assert_array_equal(found.take(pick), everything(get(net, items))[pick])
    np.testing.assert_array_equal(found.take(np.array(pick)), found.take(pick))


def test_beyond_the_bound_rows_are_read_from_a_file_without_a_name_too(items: list[Item]) -> None:
    net = network("stage1")
    found = get(net, items, Cache(None, memory_bytes=0))
    np.testing.assert_array_equal(everything(found), everything(get(net, items)))


@pytest.mark.parametrize("cut", CUTS)
def test_a_second_run_computes_nothing(cut: str, items: list[Item], tmp_path: Path) -> None:
    first, second = network(cut), network(cut)
    cache, notes, timer = Cache(tmp_path / "kept"), Notes(), Timer()
    before = get(first, items, cache)
    after = get(second, items, cache, watcher=notes, timer=timer)
    assert second.embedded.total() == 0
    assert notes.lines == [f"features: {len(items)} of {len(items)} from the feature cache"]
    assert set(timer.seconds) == {"cache"}
    np.testing.assert_array_equal(everything(before), everything(after))


def test_what_is_new_is_added(items: list[Item], tmp_path: Path) -> None:
    cache = Cache(tmp_path / "kept")
    get(network(), items[:5], cache)
    net, notes = network(), Notes()
    found = get(net, [*items[3:], items[0]], cache, watcher=notes)
    assert net.embedded.total() == len(items) - 5
    assert notes.lines == [f"features: 3 of {len(items) - 2} from the feature cache"]
    assert sum(notes.bars["features"]) == len(items) - 5
    np.testing.assert_array_equal(
        everything(found), everything(get(network(), [*items[3:], items[0]]))
    )


def test_equal_files_pass_once(items: list[Item], tmp_path: Path) -> None:
    copy = tmp_path / "copy.png"
    copy.write_bytes(items[0].sample.path.read_bytes())
    twin = Item(Sample(copy, 2, items[0].sample.digest))
    net = network()
    found = everything(get(net, [items[0], items[1], twin]))
    assert net.embedded.total() == 2
    np.testing.assert_array_equal(found[0], found[2])


def test_views_are_kept_apart(items: list[Item]) -> None:
    one = items[0]
    assert len({one.key, replace(one, view="a").key, replace(one, view="b").key}) == 3


def test_an_interrupted_run_keeps_what_it_has_computed(items: list[Item], tmp_path: Path) -> None:
    cache = Cache(tmp_path / "kept")
    net = network()
    whole = net.embed

    def interrupted(images: Array) -> Array:
        if net.embedded.total() >= 8:
            raise KeyboardInterrupt
        return whole(images)

    net.embed = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        get(net, items, cache)
    second = network()
    get(second, items, cache)
    assert second.embedded.total() == len(items) - 8


def test_another_way_of_decoding_makes_features_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    before = trunk_key(network("stage2"), PLAIN)
    monkeypatch.setattr(features, "REVISION", features.REVISION + 1)
    assert trunk_key(network("stage2"), PLAIN) != before


def test_the_key_tells_apart_all_that_decides_the_output() -> None:
    def changed(**attributes: str) -> CountingNetwork:
        net = network("stage2")
        for name, value in attributes.items():
            setattr(net, name, value)
        return net

    frozen, tail = network("stage2"), network("stage2")
    frozen.tensors["conv2.weight"][0, 0] += 1e-6
    tail.tensors["conv3.weight"] += 1
    statistics = network("stage2")
    statistics.tensors["bn1.running_mean"][0] += 1e-6
    keys = [
        trunk_key(network("stage2"), PLAIN),
        trunk_key(network("stage1"), PLAIN),
        trunk_key(network("stage2"), replace(PLAIN, resize=11)),
        trunk_key(network("stage2"), replace(PLAIN, background=(0, 0, 0))),
        trunk_key(network("stage2"), PLAIN.sized(9)),
        trunk_key(network("stage2"), PLAIN.sized(fit="pad")),
        trunk_key(network("stage2"), PLAIN.sized(fit="stretch")),
        trunk_key(frozen, PLAIN),
        trunk_key(statistics, PLAIN),
        trunk_key(changed(engine="other"), PLAIN),
        trunk_key(changed(precision="bf16"), PLAIN),
        trunk_key(changed(device="cuda:0 (A)"), PLAIN),
    ]
    assert len(set(keys)) == len(keys)
    assert trunk_key(tail, PLAIN) == keys[0]
    assert trunk_key(changed(device="cuda:1 (A)"), PLAIN) == keys[-1]


def test_a_fingerprint_tells_names_shapes_and_values_apart() -> None:
    one = np.arange(6, dtype=np.float32)
    prints = [
        fingerprint({"a": one}),
        fingerprint({"b": one}),
        fingerprint({"a": one.reshape(2, 3)}),
        fingerprint({"a": one + 1}),
        fingerprint({"a": one, "b": one}),
    ]
    assert len(set(prints)) == len(prints)
    assert fingerprint({"b": one, "a": one}) == prints[-1]


def test_changed_weights_are_not_answered_from_the_cache(items: list[Item], tmp_path: Path) -> None:
    cache = Cache(tmp_path / "kept")
    get(network(seed=1), items, cache)
    other = network(seed=2)
    found = get(other, items, cache)
    assert other.embedded.total() == len(items)
    np.testing.assert_allclose(everything(found), wanted(other, items), rtol=1e-6)


def row_bytes(net: CountingNetwork) -> int:
    return 4 * 8 * 8 * {"stem": 3, "stage1": 8}[net.units[net.cut].stage] + store.BESIDE_BYTES


def test_what_does_not_fit_on_the_disk_is_not_kept(items: list[Item], tmp_path: Path) -> None:
    net = network("stage1")
    small = Cache(tmp_path / "kept", disk_bytes=len(items) * row_bytes(net) - 1)
    found = get(net, items, small)
    np.testing.assert_array_equal(everything(found), everything(get(network("stage1"), items)))
    assert store.entries(tmp_path / "kept") == []


def test_the_trunk_used_longest_ago_makes_room(items: list[Item], tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    net = network("stage1")
    cache = Cache(folder, disk_bytes=2 * len(items) * row_bytes(net))
    names = []
    for age, seed in enumerate((1, 2, 3)):
        net = network("stage1", seed=seed)
        get(net, items, cache)
        names.append(trunk_key(net, PLAIN))
        os.utime(folder / names[-1] / "meta.json", (1000 + age, 1000 + age))
    assert [entry.name for entry in store.entries(folder)] == names[1:]


def test_a_full_cache_that_holds_all_rows_is_used(items: list[Item], tmp_path: Path) -> None:
    net = network("stage1")
    exact = Cache(tmp_path / "kept", disk_bytes=len(items) * row_bytes(net))
    get(net, items, exact)
    second = network("stage1")
    get(second, items, exact)
    assert second.embedded.total() == 0


def test_rows_of_other_images_give_way_where_both_do_not_fit(
    items: list[Item], tmp_path: Path
) -> None:
    half, rest = items[:8], items[8:15]
    net = network("stage1")
    cache = Cache(tmp_path / "kept", disk_bytes=len(half) * row_bytes(net))
    get(net, half, cache)
    get(net, rest, cache)
    third = network("stage1")
    get(third, rest, cache)
    assert third.embedded.total() == 0


def test_two_at_a_time_are_both_right(items: list[Item], tmp_path: Path) -> None:
    """One of them may write the store; the other computes for itself."""
    cache, results, notes = Cache(tmp_path / "kept"), {}, [Notes() for _ in range(4)]
    gate = threading.Barrier(4)

    def work(number: int) -> None:
        gate.wait()
        for _ in range(3):
            found = get(network("stage1"), items, cache, watcher=notes[number], batch_size=3)
            results[number] = everything(found)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = everything(get(network("stage1"), items, batch_size=3))
    assert len(results) == 4
    for found in results.values():
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    last = network("stage1")
    get(last, items, cache)
    assert last.embedded.total() == 0


def test_a_store_in_use_is_left_alone_and_this_is_said(items: list[Item], tmp_path: Path) -> None:
    cache, net, notes = Cache(tmp_path / "kept"), network(), Notes()
    get(net, items[:3], cache)
    place = tmp_path / "kept" / trunk_key(net, PLAIN)
    with store.lock(place):
        found = get(net, items, cache, watcher=notes)
    assert "in use by another run" in notes.lines[0]
    assert found.count == len(items)
    assert len(store.stored(place)) == 3


def test_rows_stay_readable_when_their_store_is_evicted(items: list[Item], tmp_path: Path) -> None:
    cache = Cache(tmp_path / "kept", memory_bytes=0)
    found = get(network("stage1"), items, cache)
    assert store.clear(tmp_path / "kept") > 0
    np.testing.assert_array_equal(everything(found), everything(get(network("stage1"), items)))


def test_a_cache_folder_that_cannot_be_written_stops_nothing(
    items: list[Item], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    notes = Notes()
    found = get(network(), items, Cache(tmp_path / "file" / "kept"), watcher=notes)
    assert found.count == len(items)
    assert "features are not kept" in notes.lines[0]


def test_damaged_rows_are_computed_anew_and_this_is_said(items: list[Item], tmp_path: Path) -> None:
    cache, net, notes = Cache(tmp_path / "kept"), network(), Notes()
    first = everything(get(net, items, cache))
    rows_file = tmp_path / "kept" / trunk_key(net, PLAIN) / "rows.f32"
    whole = rows_file.read_bytes()
    rows_file.write_bytes(bytes(len(whole) // 2) + whole[len(whole) // 2 :])
    found = get(net, items, cache, watcher=notes)
    np.testing.assert_array_equal(everything(found), first)
    assert "kept rows were damaged and are computed anew" in notes.lines[0]
    again = network()
    np.testing.assert_array_equal(everything(get(again, items, cache)), first)
    assert again.embedded.total() == 0


@pytest.mark.parametrize("memory_bytes", [0, 2**30])
def test_a_disk_that_fills_up_meanwhile_stops_nothing(
    items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory_bytes: int
) -> None:
    """What was kept so far stays, the rest is kept for this run."""
    real, calls = store.write_all, 0

    def write(file: Any, data: memoryview) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            real(file, data[:7])
            raise OSError(28, "No space left on device")
        real(file, data)

    cache, notes = Cache(tmp_path / "kept", memory_bytes), Notes()
    with monkeypatch.context() as patch:
        patch.setattr(store, "write_all", write)
        found = get(network(), items, cache, watcher=notes)
    np.testing.assert_array_equal(everything(found), everything(get(network(), items)))
    assert any("No space left on device): features are not kept" in line for line in notes.lines)
    second = network()
    get(second, items, cache)
    assert second.embedded.total() == len(items) - 4


def test_a_temporary_folder_that_cannot_be_written_is_told_with_a_remedy(
    items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shelves.tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(StorageError, match=r"Permission denied.*set TMPDIR"):
        get(network(), items)


def test_other_arithmetic_is_another_store() -> None:
    one, other = network(), network()
    assert trunk_key(one, PLAIN) == trunk_key(other, PLAIN)
    other.arithmetic = "numpy on another processor"
    assert trunk_key(one, PLAIN) != trunk_key(other, PLAIN)


def test_labels_are_the_samples(tmp_path: Path) -> None:
    train: Dataset = datasets(tmp_path / "photos")[0]
    assert [Item(sample).label for sample in train.samples] == [s.label for s in train.samples]
