"""What every engine must do. A test class inherits `Conformance` and gives `build`.

One of an engine that only evaluates inherits `Evaluating`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pyflux_transfer.engines.base import OPTIMIZERS, Labels, Network, Plan, Update, tail_stages
from pyflux_transfer.errors import InputError, PyFluxTransferError, WeightsError
from pyflux_transfer.networks.head import Head
from pyflux_transfer.networks.tensors import Array, State
from pyflux_transfer.networks.units import tensors
from tests.engines import fake

Build = Callable[[Plan], Network]
CLASSES = 3


def rates(network: Network, rate: float = 1e-2) -> dict[str, float]:
    return dict.fromkeys(tail_stages(network.units, network.cut), rate)


def train(network: Network, x: Array, y: Labels, steps: int, rate: float = 1e-2) -> list[float]:
    return [network.step(x, y, rates(network, rate)) for _ in range(steps)]


def assert_same(one: State, other: State) -> None:
    """Equal names in equal order, and equal bits."""
    assert list(one) == list(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


class Evaluation:
    """What is the same with every cut; `build` makes a network, `plan` says which one."""

    side = 8  # of the images

    trains = True

    # How far the loss of a step may lie from that of evaluation, relative.
    step_to_evaluation = 1e-4

    # The step of a difference that stands for a slope.
    difference = 1e-3

    # Whether slopes of the whole tail drown in its kinks or its rounding: that of the head stays.
    slope_of_head = False

    # How far an image's numbers may lie from those it has alone, of the largest: 0 is to the bit.
    beside_others = 0.0

    # How far they may lie from those of another cut, of the largest.
    across_cuts = 0.0

    @pytest.fixture
    def build(self) -> Build:
        raise NotImplementedError

    @pytest.fixture
    def plan(self) -> Plan:
        return Plan(fake.TINY, Head(CLASSES, hidden=(10,), dropout=0.25), seed=3)

    @pytest.fixture
    def network(self, build: Build, plan: Plan) -> Network:
        return build(plan)

    @pytest.fixture
    def images(self) -> Array:
        """Two images a class; what tells the classes apart is their colour."""
        generator = np.random.default_rng(5)
        noise = generator.standard_normal((2 * CLASSES, 3, self.side, self.side), dtype=np.float32)
        colour = np.repeat(np.eye(CLASSES, 3, dtype=np.float32), 2, axis=0)
        return noise + 2 * colour[:, :, None, None]

    @pytest.fixture
    def labels(self) -> Labels:
        return np.repeat(np.arange(CLASSES, dtype=np.int64), 2)

    @pytest.fixture
    def middle(self, plan: Plan) -> int:
        """A cut with convolutions and BatchNorms on both sides."""
        names = dict.fromkeys(unit.stage for unit in plan.units)
        wanted = list(names)[(len(names) - 1) // 2]
        return next(i for i, unit in enumerate(plan.units) if unit.stage == wanted)

    def test_an_images_numbers_do_not_depend_on_its_neighbours(
        self, network: Network, images: Array, middle: int
    ) -> None:
        for cut in (middle, len(network.units) - 1):
            network.cut_at(cut)
            features = network.embed(images)
            logits = network.logits(features)
            for some in (slice(0, 1), slice(3, 4), slice(1, 3), slice(2, None)):
                alone = network.embed(np.ascontiguousarray(images[some]))
                for one, all_ in ((alone, features), (network.logits(alone), logits)):
                    far = self.beside_others * np.abs(all_).max()
                    np.testing.assert_allclose(one, all_[some], rtol=0, atol=far)

    def addresses(self, network: Network) -> dict[str, int] | None:  # noqa: ARG002
        """Where each tensor lies in memory, for engines that can tell."""
        return None

    def assert_same_answers(self, one: Array, other: Array, what: str) -> None:
        """Equal as far as another cut may alter them."""
        far = self.across_cuts * np.abs(other).max()
        np.testing.assert_allclose(one, other, rtol=0, atol=far, err_msg=what)

    # --- evaluation

    def test_logits_are_float32_c_contiguous_and_one_row_an_image(
        self, network: Network, images: Array
    ) -> None:
        logits = network.logits(network.embed(images))
        assert logits.shape == (len(images), CLASSES)
        assert logits.dtype == np.float32
        assert logits.flags.c_contiguous
        assert np.ptp(logits) > 0

    def test_moving_the_cut_changes_no_logit(self, network: Network, images: Array) -> None:
        expected = network.logits(network.embed(images))
        for cut in range(1, len(network.units)):
            network.cut_at(cut)
            features = network.embed(images)
            assert features.dtype == np.float32
            assert features.flags.c_contiguous
            self.assert_same_answers(network.logits(features), expected, f"cut {cut}")

    def test_moving_the_cut_copies_no_weight(self, network: Network, images: Array) -> None:
        before, state = self.addresses(network), network.state()
        for cut in (2, 0, 1):
            network.cut_at(cut)
            assert network.cut == cut
            network.embed(images)
        assert self.addresses(network) == before
        assert_same(network.state(), state)

    def test_slices_compose(self, network: Network, images: Array) -> None:
        count = len(network.units)
        whole = network.apply(images, 0, count)
        np.testing.assert_array_equal(network.logits(network.embed(images)), whole)
        for stop in range(count + 1):
            part = network.apply(images, 0, stop)
            self.assert_same_answers(network.apply(part, stop, count), whole, f"at {stop}")
        np.testing.assert_array_equal(network.apply(images, 0, 0), images)

    def test_trace_tells_the_shapes(self, network: Network, images: Array) -> None:
        shapes = network.trace(images.shape)
        assert len(shapes) == len(network.units)
        x = images
        for index, unit in enumerate(shapes):
            assert unit.input == x.shape
            x = network.apply(x, index, index + 1)
            assert unit.output == x.shape

    def test_read_only_arrays_are_taken(self, network: Network, images: Array) -> None:
        expected = network.logits(network.embed(images))
        images.flags.writeable = False
        features = network.embed(images)
        features.flags.writeable = False
        np.testing.assert_array_equal(network.logits(features), expected)


class Gradients(Evaluation):
    """The gradient of a logit."""

    def test_the_gradient_of_a_logit_is_its_slope(
        self, network: Network, images: Array, labels: Labels, middle: int
    ) -> None:
        """Along random directions, by differences; kinks of ReLUs may lie between them."""
        if self.slope_of_head:
            middle = next(i for i, unit in enumerate(network.units) if unit.stage == "head")
        x = network.apply(images, 0, middle)
        gradient = network.logit_gradient(x, labels, middle)
        assert gradient.shape == x.shape
        assert gradient.dtype == np.float32
        assert gradient.flags.c_contiguous
        generator, slopes, found = np.random.default_rng(1), [], []
        for _ in range(8):
            way = generator.standard_normal(x.shape, dtype=np.float32)
            ahead, behind = (
                network.apply(x + np.float32(way_on) * way, middle, len(network.units))
                for way_on in (self.difference, -self.difference)
            )
            slopes.append((ahead - behind)[np.arange(len(x)), labels] / (2 * self.difference))
            found.append((gradient * way).reshape(len(x), -1).sum(axis=1))
        assert np.corrcoef(np.ravel(slopes), np.ravel(found))[0, 1] > 0.98
        assert np.std(found) == pytest.approx(np.std(slopes), rel=0.1)

    def test_the_gradient_of_a_logit_changes_nothing(
        self, network: Network, images: Array, labels: Labels, middle: int
    ) -> None:
        network.cut_at(middle)
        x = network.embed(images)
        before, logits = network.state(), network.logits(x)
        first = network.logit_gradient(x, labels, middle)
        np.testing.assert_array_equal(network.logit_gradient(x, labels, middle), first)
        assert network.cut == middle
        assert_same(network.state(), before)
        np.testing.assert_array_equal(network.logits(x), logits)
        alone = network.logit_gradient(x[2:3], labels[2:3], middle)
        np.testing.assert_allclose(alone[0], first[2], rtol=0, atol=1e-5 * np.abs(first).max())


class Weights(Evaluation):
    """What a network gives and takes."""

    def test_state_has_the_catalogs_names_and_shapes(self, network: Network) -> None:
        state = network.state()
        assert {name: value.shape for name, value in state.items()} == tensors(network.units)
        assert all(value.dtype == np.float32 for value in state.values())
        assert list(network.state(2)) == list(tensors(network.units[2:]))

    def test_state_is_a_copy_and_round_trips(
        self, build: Build, plan: Plan, images: Array, labels: Labels
    ) -> None:
        first = build(plan)
        if self.trains:
            train(first, images, labels, 2)
        state = first.state()
        expected = first.logits(first.embed(images))
        second = build(replace(plan, seed=plan.seed + 1 if plan.seed else 1))
        second.load_state(state)
        assert_same(second.state(), state)
        np.testing.assert_array_equal(second.logits(second.embed(images)), expected)
        if self.trains:  # neither of the networks, nor the state, sees what the other learns
            kept = {name: value.copy() for name, value in state.items()}
            train(second, images, labels, 2)
            assert_same(state, kept)
            np.testing.assert_array_equal(first.logits(first.embed(images)), expected)
            second.load_state(state)
        for value in state.values():
            if value.flags.writeable:
                value[...] = 0
        np.testing.assert_array_equal(first.logits(first.embed(images)), expected)
        np.testing.assert_array_equal(second.logits(second.embed(images)), expected)

    @pytest.mark.parametrize("damage", ["missing", "extra", "misshaped"])
    def test_strict_loading_names_the_leaf_and_writes_nothing(
        self, network: Network, images: Array, damage: str
    ) -> None:
        before = network.state()
        logits = network.logits(network.embed(images))
        state = {name: value + 1 for name, value in before.items()}
        leaf = list(state)[-1]
        if damage == "missing":
            del state[leaf]
        elif damage == "extra":
            leaf = "stranger.weight"
            state[leaf] = np.zeros(3, np.float32)
        else:
            state[leaf] = np.zeros(7, np.float32)
        with pytest.raises(WeightsError, match=leaf.replace(".", r"\.")):
            network.load_state(state)
        assert_same(network.state(), before)
        np.testing.assert_array_equal(network.logits(network.embed(images)), logits)

    def test_the_seed_makes_the_weights(self, build: Build, plan: Plan) -> None:
        assert_same(build(plan).state(), build(plan).state())
        other = build(replace(plan, seed=99)).state()
        assert any(not np.array_equal(v, other[k]) for k, v in build(plan).state().items())


class Training(Evaluation):
    """Steps, and what an optimizer remembers."""

    def test_the_trunk_stays_bit_identical(
        self, network: Network, images: Array, labels: Labels, middle: int
    ) -> None:
        network.cut_at(middle)
        network.prepare(Update())
        before, features = network.state(), network.embed(images)
        logits = network.logits(features)
        train(network, features, labels, 3)
        after = network.state()
        frozen = tensors(network.units[:middle])
        some = any(".running_mean" in name for name in before)
        assert any(".running_mean" in name for name in frozen) == some
        assert_same({n: before[n] for n in frozen}, {n: after[n] for n in frozen})
        np.testing.assert_array_equal(network.embed(images), features)
        for name in set(after) - set(frozen):
            assert not np.array_equal(before[name], after[name]), name
        assert not np.array_equal(network.logits(features), logits)

    def test_training_learns(self, network: Network, images: Array, labels: Labels) -> None:
        losses = train(network, images, labels, 30)
        assert losses[0] > 0.5
        assert np.mean(losses[-5:]) < 0.5 * losses[0]

    def test_the_same_seed_gives_the_same_losses(
        self, build: Build, plan: Plan, images: Array, labels: Labels
    ) -> None:
        runs = []
        for seed in (1, 1, 2):
            network = build(plan)
            network.prepare(Update(seed=seed))
            runs.append(train(network, images, labels, 4))
        assert runs[0] == runs[1]
        assert runs[0] != runs[2]  # other dropout masks

    def test_each_step_has_masks_of_its_own(
        self, network: Network, images: Array, labels: Labels
    ) -> None:
        losses = train(network, images, labels, 3, rate=0.0)
        assert len(set(losses)) == 3

    @pytest.mark.parametrize("optimizer", OPTIMIZERS)
    def test_a_resumed_run_equals_an_uninterrupted_one(
        self, build: Build, plan: Plan, images: Array, labels: Labels, middle: int, optimizer: str
    ) -> None:
        update = Update(optimizer=optimizer, seed=7)

        def fresh() -> Network:
            network = build(plan)
            network.cut_at(middle)
            network.prepare(update)
            return network

        whole = fresh()
        features = whole.embed(images)
        losses = train(whole, features, labels, 5)

        first = fresh()
        train(first, features, labels, 2)
        state, remembered = first.state(), first.optimizer_state()
        assert int(remembered["step"]) == 2
        train(first, features, labels, 1)  # what was returned must be copies

        second = fresh()
        second.load_state(state)
        second.load_optimizer_state(remembered)
        assert train(second, features, labels, 3) == losses[2:]
        assert_same(second.state(), whole.state())
        assert_same(second.optimizer_state(), whole.optimizer_state())

    def test_optimizer_state_of_another_optimizer_or_cut_is_refused(self, network: Network) -> None:
        network.prepare(Update(optimizer="sgd"))
        remembered = network.optimizer_state()
        network.prepare(Update(optimizer="adamw"))
        with pytest.raises(InputError, match="optimizer"):
            network.load_optimizer_state(remembered)
        network.prepare(Update(optimizer="sgd"))
        network.cut_at(1)
        with pytest.raises(InputError, match="cut"):
            network.load_optimizer_state(remembered)

    def test_moving_the_cut_forgets_the_optimizers_state(
        self, network: Network, images: Array, labels: Labels
    ) -> None:
        train(network, images, labels, 2)
        network.cut_at(network.cut)
        remembered = network.optimizer_state()
        assert int(remembered["step"]) == 0
        assert all(not value.any() for value in remembered.values())

    def test_a_rate_of_zero_leaves_a_stages_parameters_as_they_are(
        self, network: Network, images: Array, labels: Labels
    ) -> None:
        still = network.units[0].stage
        before = network.state()
        for _ in range(2):
            network.step(images, labels, {**rates(network), still: 0.0})
        after = network.state()
        for unit in network.units:
            for name in (n for n in unit.tensors if ".running_" not in n):
                assert np.array_equal(before[name], after[name]) == (unit.stage == still), name

    def test_a_missing_rate_is_refused(
        self, network: Network, images: Array, labels: Labels
    ) -> None:
        before = network.state()
        with pytest.raises(InputError, match="head"):
            network.step(images, labels, {k: v for k, v in rates(network).items() if k != "head"})
        assert_same(network.state(), before)

    @pytest.mark.parametrize("rate", [float("nan"), float("inf"), -0.1])
    def test_a_rate_that_is_none_is_refused(
        self, network: Network, images: Array, labels: Labels, rate: float
    ) -> None:
        before = network.state()
        with pytest.raises(InputError, match="'head' must be a finite number from 0"):
            network.step(images, labels, {**rates(network), "head": rate})
        assert_same(network.state(), before)

    @pytest.mark.parametrize("smoothing", [0.0, 0.2])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_the_loss_is_cross_entropy(
        self, build: Build, plan: Plan, images: Array, labels: Labels, smoothing: float,
        weighted: bool,
    ) -> None:  # fmt: skip
        network = build(replace(plan, head=Head(CLASSES)))
        network.prepare(Update(label_smoothing=smoothing, freeze_bn=True))
        weights = np.array([0.5, 2.0, 1.0], np.float32) if weighted else None
        logits = network.logits(network.embed(images))
        expected, _ = fake.cross_entropy(logits, labels, weights, smoothing)
        loss = network.step(images, labels, rates(network), weights)
        assert loss == pytest.approx(expected, rel=self.step_to_evaluation)

    def test_freeze_bn_keeps_the_statistics(
        self, network: Network, images: Array, labels: Labels
    ) -> None:
        network.prepare(Update(freeze_bn=True))
        before = network.state()
        train(network, images, labels, 2)
        after = network.state()
        changed = {n for n in after if not np.array_equal(before[n], after[n])}
        assert changed == {name for name in after if ".running_" not in name}

    @pytest.mark.parametrize("optimizer", OPTIMIZERS)
    @pytest.mark.parametrize("freeze_bn", [False, True])
    def test_training_follows_the_formulas(
        self, build: Build, images: Array, labels: Labels, optimizer: str, freeze_bn: bool
    ) -> None:
        """Losses and weights equal those of the NumPy engine, step by step."""
        plan = Plan(fake.TINY, Head(CLASSES, hidden=(10,)), seed=3)
        update = Update(
            optimizer=optimizer, weight_decay=0.05, label_smoothing=0.1, freeze_bn=freeze_bn
        )
        weights = np.array([0.5, 2.0, 1.0], np.float32)
        networks = (build(plan), fake.build(plan))
        networks[0].load_state(networks[1].state())
        losses: list[list[float]] = []
        for network in networks:
            network.prepare(update)
            rate = {**rates(network), "head": 3e-2}
            x = images[:, :, :8, :8].copy()
            losses.append([network.step(x, labels, rate, weights) for _ in range(6)])
        np.testing.assert_allclose(losses[0], losses[1], rtol=2e-4)
        one, other = networks[0].state(), networks[1].state()
        for name in one:
            np.testing.assert_allclose(one[name], other[name], atol=2e-3, err_msg=name)

    def test_a_loss_that_is_no_number_is_returned(
        self, network: Network, images: Array, labels: Labels
    ) -> None:
        network.prepare(Update(optimizer="sgd"))
        losses = train(network, images, labels, 8, rate=1e25)
        assert not np.isfinite(losses[-1])

    @pytest.mark.parametrize(
        "labels",
        [[0, 1, 2, 0, 1, 3], [0, 1, 2, 0, 1, -1], [0, 1, 2], [[0, 1, 2, 0, 1, 2]]],
        ids=["too large", "negative", "too few", "two axes"],
    )
    def test_bad_labels_are_refused(
        self, network: Network, images: Array, labels: list[int]
    ) -> None:
        before = network.state()
        with pytest.raises(InputError, match="Labels"):
            network.step(images, np.array(labels), rates(network))
        with pytest.raises(InputError, match="Labels"):
            network.step(images, np.zeros(len(images), np.int32), rates(network))
        assert_same(network.state(), before)

    def test_class_weights_of_another_length_are_refused(
        self, network: Network, images: Array, labels: Labels
    ) -> None:
        with pytest.raises(InputError, match="weights"):
            network.step(images, labels, rates(network), np.ones(CLASSES + 1, np.float32))


class Refusals(Evaluation):
    """Bad input."""

    @pytest.fixture
    def bad_images(self, images: Array) -> dict[str, tuple[Array, str]]:
        broken = images.copy()
        broken[0, 0, 0, 0] = np.nan
        return {
            "dtype": (images.astype(np.float64), "float32"),
            "not an array": (images.tolist(), "float32"),
            "layout": (np.asfortranarray(images), "C-contiguous"),
            "empty": (images[:0], "at least one"),
            "channels": (np.ascontiguousarray(images[:, :2]), "3"),
            "nan": (broken, "NaN"),
        }

    @pytest.mark.parametrize(
        "kind", ["dtype", "not an array", "layout", "empty", "channels", "nan"]
    )
    def test_bad_images_are_refused(
        self, network: Network, bad_images: dict[str, tuple[Array, str]], labels: Labels, kind: str
    ) -> None:
        images, message = bad_images[kind]
        calls: list[Callable[[], object]] = [
            lambda: network.embed(images),
            lambda: network.logits(images),
            lambda: network.apply(images, 0, 1),
        ]
        if self.trains:
            calls.append(lambda: network.step(images, labels[: len(images)], rates(network)))
        before = network.state()
        for call in calls:
            with pytest.raises(InputError, match=message):
                call()
        assert_same(network.state(), before)

    @pytest.mark.parametrize("cut", [-1, 1000])
    def test_a_cut_outside_is_refused(self, network: Network, cut: int) -> None:
        with pytest.raises(InputError, match=str(cut)):
            network.cut_at(cut)
        assert network.cut == 0

    @pytest.mark.parametrize(("start", "stop"), [(-1, 2), (2, 1), (0, 1000)])
    def test_a_slice_outside_is_refused(
        self, network: Network, images: Array, start: int, stop: int
    ) -> None:
        with pytest.raises(InputError, match=f"{start}:{stop}"):
            network.apply(images, start, stop)

    def test_features_of_another_cut_are_refused(self, network: Network, images: Array) -> None:
        network.cut_at(1)
        with pytest.raises(PyFluxTransferError):
            network.logits(images)


class Conformance(Gradients, Weights, Training, Refusals):
    """All of it."""


class Evaluating(Weights, Refusals):
    """What an engine must do that neither trains nor has gradients."""

    trains = False
