"""The estimators among scikit-learn's own tools, on the NumPy engine's network."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import validate_data

from pyflux_transfer.data.entries import Entry
from pyflux_transfer.data.tabular.contents import Drawn
from pyflux_transfer.sklearn import FeatureExtractor, TransferClassifier
from tests import photos

pytestmark = pytest.mark.usefixtures("fake_engine")

TINY: dict[str, Any] = {"arch": "tiny", "engine": "fake"}


def pictures(count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N,16,16,3) uint8 and their labels."""
    labels = np.array(["blue", "green", "red"] * (count // 3))
    return np.stack([photos.photo(label, i) for i, label in enumerate(labels)]), labels


# --- scikit-learn's own checks --------------------------------------------------------------------


class _OfRows:
    """Draws rows of numbers, which is all that the checks have, as small images."""

    def _entries(self, X: Any, *, reset: bool) -> list[Entry]:  # noqa: N803
        rows = validate_data(self, X, reset=reset, dtype=np.float64)
        drawn = 255 / (1 + np.exp(-np.clip(rows, -20, 20)))
        width = -(-drawn.shape[1] // 3) * 3
        filled = np.full((len(drawn), width), 127.0)
        filled[:, : drawn.shape[1]] = drawn
        pixels = filled.astype(np.uint8).reshape(len(drawn), 1, -1, 3)
        return [Entry(Path(f"row {i}"), "", content=Drawn(image)) for i, image in enumerate(pixels)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.two_d_array = True
        tags.input_tags.three_d_array = False
        tags.input_tags.string = False
        tags.no_validation = False
        return tags


class ClassifierOfRows(_OfRows, TransferClassifier):
    pass


class ExtractorOfRows(_OfRows, FeatureExtractor):
    pass


class ClassifierAsItIs(TransferClassifier):
    pass


class ExtractorAsItIs(FeatureExtractor):
    pass


def _given_rows(self: Any) -> Any:
    """Tell the checks, against the truth, that it takes rows of numbers: else none would run."""
    tags = super(type(self), self).__sklearn_tags__()
    tags.input_tags.two_d_array = True
    tags.no_validation = False
    return tags


ClassifierAsItIs.__sklearn_tags__ = ExtractorAsItIs.__sklearn_tags__ = _given_rows

# What cannot pass as it is, and why. All of these pass once the rows are drawn as images.
NUMBERS = "fits on rows of numbers, which are no photos and are refused"
MESSAGE = "wants another message than that rows of numbers are no photos"
FAILS = {
    "check_fit_score_takes_y": NUMBERS,
    "check_estimators_overwrite_params": NUMBERS,
    "check_dont_overwrite_parameters": NUMBERS,
    "check_estimators_fit_returns_self": NUMBERS,
    "check_readonly_memmap_input": NUMBERS,
    "check_n_features_in_after_fitting": NUMBERS,
    "check_n_features_in": NUMBERS,
    "check_positive_only_tag_during_fit": NUMBERS,
    "check_estimators_dtypes": NUMBERS,
    "check_dtype_object": NUMBERS,
    "check_pipeline_consistency": NUMBERS,
    "check_estimators_pickle": NUMBERS,
    "check_f_contiguous_array_estimator": NUMBERS,
    "check_methods_sample_order_invariance": NUMBERS,
    "check_methods_subset_invariance": NUMBERS,
    "check_dict_unchanged": NUMBERS,
    "check_fit_idempotent": NUMBERS,
    "check_fit_check_is_fitted": NUMBERS,
    "check_fit2d_predict1d": NUMBERS,
    "check_complex_data": MESSAGE,
    "check_estimators_empty_data_messages": MESSAGE,
    "check_estimators_nan_inf": MESSAGE,
    "check_fit2d_1sample": MESSAGE,
    "check_fit2d_1feature": MESSAGE,
}
FAILS_CLASSIFIER = {
    **FAILS,
    "check_classifier_data_not_an_array": NUMBERS,
    "check_classifiers_classes": NUMBERS,
    "check_classifiers_train": NUMBERS,
    "check_supervised_y_2d": NUMBERS,
    "check_class_weight_classifiers": NUMBERS,
    "check_classifiers_one_label": MESSAGE,
    "check_classifiers_regression_target": MESSAGE,
}
FAILS_EXTRACTOR = {
    **FAILS,
    "check_transformer_data_not_an_array": NUMBERS,
    "check_transformer_general": NUMBERS,
}
CHECKED = [
    (ClassifierOfRows(**TINY, fit_mode="stretch", quality="head"), {}, 50),
    (ExtractorOfRows(**TINY, fit_mode="stretch"), {}, 40),
    (ClassifierAsItIs(**TINY), FAILS_CLASSIFIER, 20),
    (ExtractorAsItIs(**TINY), FAILS_EXTRACTOR, 15),
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.parametrize(
    ("estimator", "fails", "least"), CHECKED, ids=[type(row[0]).__name__ for row in CHECKED]
)
def test_scikit_learns_checks_pass_but_those_named(
    estimator: Any, fails: dict[str, str], least: int
) -> None:
    results = check_estimator(estimator, expected_failed_checks=fails, on_fail=None, on_skip=None)
    names: dict[str, dict[str, Any]] = {}
    for result in results:
        names.setdefault(result["status"], {})[result["check_name"]] = result["exception"]
    assert names.get("failed", {}) == {}
    passed = set(names["passed"]) - set(names.get("xfail", {}))
    assert not passed & set(fails), "what passes needs no exception"
    assert sum(result["status"] == "passed" for result in results) >= least


# --- photos ---------------------------------------------------------------------------------------


def classifier(**options: Any) -> TransferClassifier:
    return TransferClassifier(**{**TINY, "quality": "head", **options})


@pytest.mark.parametrize("form", ["paths", "array of paths", "column", "pixels", "images", "bytes"])
def test_photos_come_in_any_form(form: str, tmp_path: Path) -> None:
    images, labels = pictures()
    paths = [str(tmp_path / f"{i}.png") for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    X: Any = {  # noqa: N806
        "paths": paths,
        "array of paths": np.array(paths),
        "column": np.array(paths, object)[:, None],
        "pixels": images,
        "images": [Image.fromarray(image) for image in images],
        "bytes": [Path(path).read_bytes() for path in paths],
    }[form]
    model = classifier().fit(X, labels)
    assert list(model.classes_) == ["blue", "green", "red"]
    assert model.score(X, labels) == 1.0
    shares = model.predict_proba(X)
    assert shares.shape == (12, 3)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    answers = model.model_.predict(list(images))
    assert [answer.label for answer in answers] == list(model.predict(X))
    np.testing.assert_allclose([a.probability for a in answers], shares.max(axis=1), atol=1e-6)


@pytest.mark.parametrize("names", [(3, 20, 100), (False, True), ("b", "a", "c")])
def test_labels_keep_their_type_and_order(names: tuple[Any, ...]) -> None:
    images, labels = pictures()
    _, numbers = np.unique(labels, return_inverse=True)
    y = np.array([names[i % len(names)] for i in numbers])
    model = classifier().fit(images, y)
    assert (model.classes_ == np.unique(y)).all()
    assert model.predict(images).dtype == y.dtype
    assert model.score(images, y) > 0.6


def test_it_is_searched_cloned_and_kept(tmp_path: Path) -> None:
    images, labels = pictures()
    search = GridSearchCV(classifier(), {"class_weight": [None, "balanced"], "size": [8, 10]}, cv=2)
    search.fit(images, labels)
    assert search.best_score_ > 0.8
    best = search.best_estimator_
    copy = clone(best)
    assert copy.get_params() == best.get_params()
    assert not hasattr(copy, "model_")
    joblib.dump(best, tmp_path / "model.joblib")
    for again in (pickle.loads(pickle.dumps(best)), joblib.load(tmp_path / "model.joblib")):
        assert (again.predict_proba(images) == best.predict_proba(images)).all()
    best.model_.save(tmp_path / "bees.safetensors")


def test_a_search_passes_each_photo_through_the_trunk_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.engines.fake import FakeNetwork

    images, labels = pictures()
    passed: list[int] = []
    embed = FakeNetwork.embed

    def counted(self: FakeNetwork, x: Any) -> Any:
        passed.append(len(x))
        return embed(self, x)

    monkeypatch.setattr(FakeNetwork, "embed", counted)
    assert cross_val_score(classifier(), images, labels, cv=3).mean() > 0.6
    assert sum(passed) == len(images)


def test_steps_heads_and_deeper_stages_are_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    images, labels = pictures(24)
    model = classifier(cut="stage2", epochs=2, lr=1e-2, verbose=True).fit(images, labels)
    assert len(model.run_.records) == 2
    assert "24 images of 3 classes" not in capsys.readouterr().out, "a share is held back"
    assert model.predict(images).shape == (24,)
    assert len(classifier(augment="light", epochs=1).fit(images, labels).run_.records) == 1
    assert len(classifier(hidden=(4,), dropout=0.1).fit(images, labels).run_.records) == 5
    weights = {"blue": 1.0, "green": 2.0, "red": 1.0}
    seeded = classifier(class_weight=weights, random_state=np.random.RandomState(0))
    assert seeded.fit(images, labels).run_.estimate


def test_features_serve_other_estimators() -> None:
    images, labels = pictures()
    pipeline = make_pipeline(FeatureExtractor(**TINY), LogisticRegression(max_iter=1000))
    assert pipeline.fit(images, labels).score(images, labels) > 0.9
    extractor = FeatureExtractor(**TINY, cut="stage2").fit(images)
    features = extractor.transform(images)
    assert features.shape == (12, 12)
    assert features.dtype == np.float32
    assert list(extractor.get_feature_names_out()[:2]) == ["featureextractor0", "featureextractor1"]
    again = pickle.loads(pickle.dumps(extractor))
    assert (again.transform(images) == features).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((4, 9)), r"got float64 \(4, 9\)\. Reshape your data: X\.reshape\(-1, height"),
        ("photos", "must be a list or array of photos, got the one 'photos'"),
        ([], "X is empty"),
        ([1.5, 2.5], r"X\[0\] is no photo: it is float"),
        (["https://a/b.png"], r"X\[0\] is no photo: .* is on another machine"),
        (["gone.png", "gone too.png"], r"gone.png: No such file"),
        ([b"no image", b"none"], r"X\[0\].*it is not an image"),
    ],
)
def test_what_is_no_photo_is_refused_as_a_value_error(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classifier().fit(given, ["a", "b", "a", "b"][: max(len(given), 1)])


def test_labels_and_parameters_that_cannot_be_used_are_refused() -> None:
    images, labels = pictures()
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        classifier().fit(images, labels[:3])
    with pytest.raises(ValueError, match=r"1 class only \(blue\)"):
        classifier().fit(images, ["blue"] * 12)
    with pytest.raises(ValueError, match="Unknown architecture 'resnet5'"):
        classifier(arch="resnet5").fit(images, labels)
    with pytest.raises(ValueError, match="Unknown quality 'god'"):
        classifier(quality="god").fit(images, labels)
    model = classifier().fit(images, labels)
    with pytest.raises(ValueError, match=r"gone\.png"):
        model.predict(["gone.png"])


def test_without_scikit_learn_the_remedy_is_told() -> None:
    code = "import sys; sys.modules['sklearn'] = None; import pyflux_transfer.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'pyflux-transfer[sklearn]'" in done.stderr
