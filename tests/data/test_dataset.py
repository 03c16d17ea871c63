from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pyflux_transfer.data import dataset as module
from pyflux_transfer.data.dataset import (
    Dataset,
    Sample,
    Skipped,
    class_names,
    duplicates,
    read_sample,
    scan,
    split,
    straddling,
)
from pyflux_transfer.data.decode import Picture, decode, decode_picture
from pyflux_transfer.errors import DataError, ImageError, InputError
from tests.data.pictures import encoded, picture

Photos = Callable[..., Path]


# --- scan ----------------------------------------------------------------------------------------


def test_scan_reads_every_image(photos: Photos) -> None:
    root = photos(dog=2, ant=3)
    found = scan(root)
    assert found.valid is None
    assert found.test is None
    assert found.train.classes == ("ant", "dog")
    assert found.train.counts == {"ant": 3, "dog": 2}
    assert found.train.skipped == ()
    assert [sample.label for sample in found.train.samples] == [0, 0, 0, 1, 1]
    first = found.train.samples[0]
    assert first.path == root / "ant" / "0.jpg"
    assert first.digest == hashlib.sha256(first.path.read_bytes()).hexdigest()


def test_scan_is_the_same_with_any_number_of_threads(photos: Photos) -> None:
    root = photos(a=9, b=9)
    assert scan(root, workers=1) == scan(root, workers=5)


def test_scan_gives_the_splits_a_source_has(photos: Photos) -> None:
    photos("all/train", ants=3, bees=2)
    photos("all/val", ants=1, bees=1)
    found = scan(photos("all/test", bees=1).parent)
    assert found.train.counts == {"ants": 3, "bees": 2}
    assert found.valid is not None
    assert found.valid.counts == {"ants": 1, "bees": 1}
    assert found.test is not None
    assert found.test.counts == {"ants": 0, "bees": 1}
    assert found.test.samples[0].label == 1


def test_scan_reads_a_table(photos: Photos) -> None:
    root = photos(a=2, b=2)
    rows = ["a/0.jpg,x,train", "b/0.jpg,y,train", "a/1.jpg,x,valid"]
    (root / "labels.csv").write_text("path,label,split\n" + "\n".join(rows))
    found = scan(root / "labels.csv")
    assert found.train.counts == {"x": 1, "y": 1}
    assert found.valid is not None
    assert found.valid.counts == {"x": 1, "y": 0}


def test_what_cannot_be_read_is_skipped_with_its_reason(photos: Photos) -> None:
    root = photos(a=4, b=4)
    (root / "a" / "notes.jpg").write_text("not a picture")
    whole = encoded(Image.fromarray(picture(64, 64)), "JPEG")
    (root / "b" / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "b" / "large.png").write_bytes(encoded(Image.new("L", (200, 200)), "PNG"))
    (root / "b" / "gone.jpg").symlink_to(root / "nowhere.jpg")
    found = scan(root, max_skipped=0.5, max_pixels=10_000).train
    assert found.counts == {"a": 4, "b": 4}
    reasons = {skipped.path.name: skipped.reason for skipped in found.skipped}
    assert list(reasons) == ["gone.jpg", "notes.jpg", "half.jpg", "large.png"]
    assert "it is not an image" in reasons["notes.jpg"]
    assert "damaged" in reasons["half.jpg"]  # older Pillows cannot tell that it is truncated
    assert "200 × 200 = 40,000 pixels, more than the limit of 10,000" in reasons["large.png"]
    assert reasons["gone.jpg"] == "No such file or directory"  # met where files are listed


def test_too_many_unreadable_files_are_an_error(photos: Photos) -> None:
    root = photos(a=10, b=9)
    (root / "a" / "notes.jpg").write_text("not a picture")
    assert len(scan(root).train.skipped) == 1  # 1 of 20 is the 5 % allowed
    (root / "b" / "more.jpg").write_text("not a picture")
    with pytest.raises(DataError, match=r"2 of 21 files cannot be read, more than the 5% allowed "):
        scan(root)
    with pytest.raises(DataError, match=r"notes\.jpg: .*not an image.*; .*more\.jpg.*raise max_sk"):
        scan(root)
    for i in range(5):
        (root / "b" / f"x{i}.jpg").write_text("not a picture")
    with pytest.raises(DataError, match=r"7 of 26 .*; …\)"):
        scan(root)


def test_a_class_without_a_readable_image_is_an_error(photos: Photos) -> None:
    root = photos(a=30, b=1)
    (root / "b" / "0.jpg").write_bytes(b"broken")
    with pytest.raises(DataError, match="No image of the class 'b'"):
        scan(root)


def test_known_files_are_not_decoded_again(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    root = photos(a=2, b=2)
    before = scan(root)
    known = {sample.digest for sample in before.train.samples[:3]}
    decoded: list[bytes] = []
    whole = decode_picture(before.train.samples[3].path)

    def decoding(data: bytes, **_: object) -> Picture:
        decoded.append(data)
        return whole

    monkeypatch.setattr(module, "decode_picture", decoding)
    assert scan(root, known_good=known) == before
    assert decoded == [before.train.samples[3].path.read_bytes()]


def test_one_class_only_is_an_error(photos: Photos) -> None:
    with pytest.raises(DataError, match=r"one class only \('ants'\), at least two are needed"):
        scan(photos(ants=3))


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no folders"):
        scan(tmp_path)


def test_given_classes_set_the_order(photos: Photos) -> None:
    found = scan(photos(a=1, b=2), classes=["b", "a"]).train
    assert found.classes == ("b", "a")
    assert found.counts == {"b": 2, "a": 1}
    assert [sample.label for sample in found.samples] == [1, 0, 0]


@pytest.mark.parametrize("classes", [["ants"], ["ants", "bees", "wasps"], ["ants", "cats"]])
def test_other_classes_than_asked_for_are_refused_with_both_lists(
    photos: Photos, classes: list[str]
) -> None:
    message = rf"\(ants, bees\) are not those asked for \({', '.join(classes)}\)"
    with pytest.raises(DataError, match=message):
        scan(photos(ants=1, bees=1), classes=classes)


def test_validation_classes_must_be_training_classes(photos: Photos) -> None:
    photos("all/train", ants=2, bees=2)
    root = photos("all/val", ants=1, wasps=1).parent
    with pytest.raises(DataError, match=r"valid images .* \(wasps\) that .* \(ants, bees\) lack"):
        scan(root)


def test_what_may_be_wrong_is_noted(photos: Photos) -> None:
    photos("all/train", ants=3, bees=3)
    root = photos("all/test", ants=2, bees=2).parent
    place = root / "train"
    copy, known = place / "bees" / "same.jpg", root / "test" / "ants" / "known.jpg"
    copy.write_bytes((place / "ants" / "1.jpg").read_bytes())
    known.write_bytes((place / "ants" / "0.jpg").read_bytes())
    whole = (place / "bees" / "0.jpg").read_bytes()
    (place / "bees" / "cut.jpg").write_bytes(whole[:-2])
    assert scan(root).notes == (
        "1 photos stand in two classes at once, and one must be wrong: "
        f"{place / 'ants' / '1.jpg'} = {copy}",
        "1 test photos are training photos too, which flatters the test: "
        f"{place / 'ants' / '0.jpg'} = {known}",
        f"1 photos lack only their end and are used, as {place / 'bees' / 'cut.jpg'}",
    )


def test_names_that_may_mean_one_class_are_noted(photos: Photos) -> None:
    root = photos(**{"1": 2, "1.0": 2, "Cat": 2, "cat": 2, "sea_lion": 2, "Sea lion": 2, "nan": 2})
    assert [note.split(":")[0] for note in scan(root).notes] == [
        "the classes '1' and '1.0' may be one",
        "the classes 'Cat' and 'cat' may be one",
        "the class 'nan' may stand for labels that are missing",
        "the classes 'Sea lion' and 'sea_lion' may be one",
    ]


def test_a_source_without_training_images_is_for_judging_only(photos: Photos) -> None:
    root = photos("all/Test", ants=2, bees=1).parent
    with pytest.raises(DataError, match=r"has test images only, none to train on\. Put those into"):
        scan(root)
    found = scan(root, classes=["ants", "bees", "cats"], training=False)
    assert found.train.samples == ()
    assert found.parts[-1].counts == {"ants": 2, "bees": 1, "cats": 0}
    with pytest.raises(DataError, match="not those asked for"):
        scan(root, classes=["bees", "cats"], training=False)


def test_a_split_without_a_readable_image_is_an_error(photos: Photos) -> None:
    photos("all/train", ants=2, bees=2)
    root = photos("all/test", ants=1).parent
    (root / "test" / "ants" / "0.jpg").write_bytes(b"no image")
    for training in (True, False):
        with pytest.raises(DataError, match=r"No test image of .*all' can be read"):
            scan(root, max_skipped=1, training=training)


def test_a_table_of_one_split_can_be_judged(photos: Photos) -> None:
    root = photos(a=2, b=2)
    (root / "t.csv").write_text("path,label,split\na/0.jpg,x,test\nb/0.jpg,y,test\n")
    found = scan(root / "t.csv", training=False)
    assert found.test is not None
    assert found.test.counts == {"x": 1, "y": 1}


def test_a_folder_that_holds_the_classes_deeper_is_suggested(photos: Photos) -> None:
    root = photos("top/dataset", ants=2, bees=2).parent
    with pytest.raises(DataError, match=rf"one class only.*did you mean '{root / 'dataset'}'\?"):
        scan(root)


def test_classes_fit_in_any_form_of_unicode(photos: Photos) -> None:
    root = photos(**{"cafe\u0301": 2, "bar": 2})
    assert scan(root, classes=["caf\u00e9", "bar"]).train.counts == {"caf\u00e9": 2, "bar": 2}
    assert scan(root, classes=["cafe\u0301", "bar"]).train.classes == ("cafe\u0301", "bar")


def test_what_is_no_image_is_not_read(photos: Photos) -> None:
    root = photos(a=4, b=4)
    with (root / "a" / "clip.jpg").open("wb") as film, (root / "b" / "huge.tif").open("wb") as tiff:
        film.write(b"\0\0\0\x18ftypmp42")
        film.truncate(2**33)
        tiff.write(b"II*\0")
        tiff.truncate(2**33)
    reasons = {item.path.name: item.reason for item in scan(root, max_skipped=0.3).train.skipped}
    assert "it is not an image" in reasons["clip.jpg"]
    assert "8,589,934,592 bytes, more than the limit of 400,000,000" in reasons["huge.tif"]
    assert "raise max_pixels (--max-pixels)" in reasons["huge.tif"]


# --- split ---------------------------------------------------------------------------------------


def dataset(*counts: int, folder: str = "photos") -> Dataset:
    return Dataset(
        samples=tuple(
            Sample(Path(folder, f"c{label}", f"{i}.jpg"), label, f"{label}-{i}")
            for label, count in enumerate(counts)
            for i in range(count)
        ),
        classes=tuple(f"c{label}" for label in range(len(counts))),
        skipped=(Skipped(Path("x"), "why"),),
    )


def names(side: Dataset) -> set[tuple[str, ...]]:
    return {sample.path.parts[-2:] for sample in side.samples}


@given(
    counts=st.lists(st.integers(2, 40), min_size=1, max_size=5),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**40),
)
def test_split_is_stratified_whole_and_disjoint(counts: list[int], share: float, seed: int) -> None:
    whole = dataset(*counts)
    train, valid = split(whole, share, seed)
    assert train.classes == valid.classes == whole.classes
    assert sorted(train.samples + valid.samples, key=whole.samples.index) == list(whole.samples)
    for name, count in whole.counts.items():
        assert train.counts[name] >= 1
        assert valid.counts[name] >= 1
        assert train.counts[name] + valid.counts[name] == count
        if 1 <= share * count <= count - 1:
            assert abs(valid.counts[name] - share * count) <= 0.5


@given(seed=st.integers(0, 2**40), shuffle=st.randoms(use_true_random=False))
def test_split_depends_on_names_alone(seed: int, shuffle: random.Random) -> None:
    whole = dataset(15, 8)
    train, valid = split(whole, seed=seed)
    samples = list(whole.samples)
    shuffle.shuffle(samples)
    moved = Dataset(
        tuple(Sample(Path("/elsewhere") / s.path, s.label, s.digest) for s in samples),
        whole.classes,
    )
    assert [names(side) for side in split(moved, seed=seed)] == [names(train), names(valid)]


def test_split_keeps_the_order_and_what_was_skipped() -> None:
    whole = dataset(10, 10)
    train, valid = split(whole)
    assert train.skipped == whole.skipped
    assert valid.skipped == ()
    for side in (train, valid):
        assert list(side.samples) == sorted(side.samples, key=whole.samples.index)


def test_another_seed_splits_otherwise_and_all_images_get_their_turn() -> None:
    whole = dataset(20, 20)
    sides = [names(split(whole, seed=seed)[1]) for seed in range(40)]
    assert len(set(map(frozenset, sides))) == 40
    assert set().union(*sides) == names(whole)


def test_a_new_image_moves_few_others() -> None:
    before, after = (names(split(dataset(n, n))[1]) for n in (50, 51))
    assert len(before - after) <= 2


def test_a_file_listed_twice_is_still_split() -> None:
    sample = Sample(Path("a/1.jpg"), 0, "same")
    train, valid = split(Dataset((sample, sample), ("a",)))
    assert train.samples == valid.samples == (sample,)
    assert duplicates(train, valid) == [(sample.path, sample.path)]


def test_a_class_with_one_image_cannot_be_split() -> None:
    with pytest.raises(DataError, match=r"class 'c1' has 1 image, a split needs two\. Add"):
        split(dataset(5, 1))


@pytest.mark.parametrize("share", [0.0, 1.0, -0.2, 20, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(InputError, match=f"between 0 and 1, got {share}"):
        split(dataset(5, 5), share)


def in_groups(whole: Dataset, names: Sequence[str | None]) -> Dataset:
    samples = (replace(s, group=g) for s, g in zip(whole.samples, names, strict=True))
    return replace(whole, samples=tuple(samples))


@given(
    counts=st.lists(st.integers(6, 40), min_size=1, max_size=5),
    sizes=st.lists(st.integers(1, 4), min_size=200, max_size=200),
    share=st.floats(0.1, 0.9),
    seed=st.integers(0, 2**40),
)
def test_split_keeps_groups_whole(
    counts: list[int], sizes: list[int], share: float, seed: int
) -> None:
    """Of up to 4 images, each of one class; shares are within half the largest group."""
    whole, names = dataset(*counts), list[str]()
    for label, count in enumerate(counts):
        mine = [f"{label}.{i}" for i, size in enumerate(sizes) for _ in range(size)]
        names += mine[:count]
    train, valid = split(in_groups(whole, names), share, seed)
    assert straddling(train, valid) == []
    assert len(train.samples) + len(valid.samples) == len(names)
    for name, count in whole.counts.items():
        assert train.counts[name] >= 1
        assert valid.counts[name] >= 1
        if 4 <= share * count <= count - 4:
            assert abs(valid.counts[name] - share * count) <= 2.5


def test_groups_of_several_classes_fall_on_one_side_by_their_names() -> None:
    whole = in_groups(dataset(30, 30), [f"p{i % 10}" for i in range(60)])
    train, valid = split(whole)
    assert straddling(train, valid) == []
    assert (train.counts, valid.counts) == ({"c0": 24, "c1": 24}, {"c0": 6, "c1": 6})
    renamed = replace(whole, samples=tuple(replace(s, path=Path("x.jpg")) for s in whole.samples))
    assert split(renamed)[1].groups == valid.groups
    assert len({tuple(split(whole, seed=seed)[1].groups) for seed in range(9)}) > 1


def test_images_without_a_group_are_split_one_by_one() -> None:
    whole = dataset(9, 9)
    mixed = in_groups(whole, ["x", "x", "x"] + 15 * [None])
    for seed in range(5):
        train, valid = split(mixed, seed=seed)
        assert straddling(train, valid) == []
        assert valid.counts == {"c0": 2, "c1": 2} or valid.counts == {"c0": 3, "c1": 2}


def test_a_class_of_one_group_cannot_be_split() -> None:
    whole = in_groups(dataset(3, 3), ["x", "y", "z", "same", "same", "same"])
    with pytest.raises(DataError, match=r"class 'c1' has all 3 images in one group, a split"):
        split(whole)


def test_groups_that_leave_no_class_on_both_sides_are_refused() -> None:
    """Of three groups with two classes each none can go without taking a class along."""
    whole = in_groups(dataset(2, 2, 2), ["x", "y", "y", "z", "x", "z"])
    with pytest.raises(DataError, match=r"cannot stand on both sides of a split that keeps groups"):
        split(whole)


def test_a_scan_tells_the_groups_of_a_table(photos: Photos) -> None:
    root = photos(a=2, b=2)
    rows = ["path,label,split,group", "a/0.jpg,a,train,anna", "b/0.jpg,b,train,ben",
            "a/1.jpg,a,val,ben", "b/1.jpg,b,test,carl"]  # fmt: skip
    (root / "labels.csv").write_text("\n".join(rows))
    found = scan(root / "labels.csv")
    assert [part.groups for part in found.parts] == [{"anna": 1, "ben": 1}, {"ben": 1}, {"carl": 1}]
    assert straddling(*found.parts) == ["ben"]


# --- duplicates ----------------------------------------------------------------------------------


def test_duplicates_across_the_border_are_named(photos: Photos) -> None:
    photos("all/train", ants=2, bees=2)
    root = photos("all/val", ants=1, bees=1).parent
    copy = root / "val" / "ants" / "again.jpg"
    copy.write_bytes((root / "train" / "bees" / "1.jpg").read_bytes())
    found = scan(root)
    assert found.valid is not None
    assert duplicates(found.train, found.valid) == [(root / "train" / "bees" / "1.jpg", copy)]


def test_progress_counts_every_file(photos: Photos) -> None:
    told: list[tuple[str, int]] = []

    @contextmanager
    def bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
        told.append((title, total))
        yield lambda count: told.append(("done", count))

    scan(photos(ants=3, bees=2), bar=bar)
    assert told == [("scanning", 5), *[("done", 1)] * 5]


def test_class_names_open_no_image(photos: Photos) -> None:
    folder = photos(bees=1, ants=1)
    (folder / "ants" / "0.jpg").write_bytes(b"no image")
    assert class_names(folder) == ("ants", "bees")
    with pytest.raises(DataError, match="one class only"):
        class_names(photos("other", ants=2))


def test_a_file_that_changed_since_the_scan_is_refused_by_its_name(photos: Photos) -> None:
    sample = scan(photos(blue=2, red=2)).train.samples[0]
    whole = sample.path.read_bytes()
    assert read_sample(sample, len) == len(whole)
    sample.path.write_bytes(whole + b" ")
    with pytest.raises(DataError, match=rf"{sample.path}' has changed since it was scanned"):
        read_sample(sample, len)
    sample.path.unlink()
    with pytest.raises(DataError, match=r"cannot now: No such file.*Put it back"):
        read_sample(sample, len)


def test_a_sample_that_does_not_decode_is_named(photos: Photos) -> None:
    sample = scan(photos(blue=2, red=2)).train.samples[0]
    with pytest.raises(ImageError, match=rf"'{sample.path}' cannot be read: .*limit of 1\b"):
        read_sample(sample, lambda data: decode(data, max_pixels=1))
