from __future__ import annotations

from pyflux_transfer.insight.findings import KINDS, Finding, Findings, Photo, ordered


def findings(*found: Finding, counts: tuple[int, int] = (30, 30)) -> Findings:
    photos = [Photo(f"{name}/{i}.png", "train", name)
              for name, count in zip(("ant", "bee"), counts, strict=True)
              for i in range(count)]  # fmt: skip
    names = tuple(photo.path for photo in photos)
    return Findings(("ant", "bee"), tuple(photos), ordered(found), names)


def test_what_is_urgent_comes_first_and_the_rest_keeps_its_order() -> None:
    found = [Finding("dark", 3, 1, ""), Finding("label", 1, 2, ""), Finding("label", 2, 3, ""),
             Finding("unreadable", 0, 1, "")]  # fmt: skip
    assert [(f.kind, f.photo) for f in ordered(found)] == [
        ("unreadable", 0), ("label", 1), ("label", 2), ("dark", 3),
    ]  # fmt: skip


def test_the_verdict_counts_and_advises() -> None:
    found = findings(
        Finding("label", 0, 1, ""),
        *(Finding("copy", i, 1, "", set=i // 3) for i in range(6)),
        counts=(150, 12),
    )
    label, copy, few, imbalance = found.verdict()
    assert label == f"Probable label errors: 1 of 162. {KINDS['label'].advice}"
    assert copy.startswith("Near-copies: 6 photos in 2 sets. ")
    assert few.startswith("Few photos: bee have fewer than 20")
    assert imbalance.startswith("Imbalance: ant has 150 photos, bee 12.")


def test_where_nothing_stands_out_one_may_train() -> None:
    assert findings().verdict() == ["Nothing stands out. Train."]


def test_counts_leave_out_what_is_unreadable() -> None:
    found = findings(Finding("unreadable", 0, 1, "empty"))
    assert found.counts() == {"ant": {"train": 29}, "bee": {"train": 30}}
    assert found.to_json()["counts"] == found.counts()


def test_every_kind_says_what_it_means_and_what_to_do() -> None:
    for row in KINDS.values():
        assert all(row.__dict__.values())
