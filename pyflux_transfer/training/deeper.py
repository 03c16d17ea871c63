"""Deeper: stages before the head train too, where photos that are held out say that it pays.

Every way of training starts from the solved head, which keeps what the trunk knows (LP-FT, Kumar
et al. 2022), with BatchNorm as it is and a warm-up. It is judged by folds that judged the head, on
the same photos, and taken only if its log loss is lower by more than the standard error of the
difference and its accuracy no lower. Half-way from start to end is judged beside the end: it often
generalises better (WiSE-FT, Wortsman et al. 2022). Of the best way it is then tried to go on for
twice as long, again and again while that is better.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pyflux_transfer.data.dataset import Dataset
from pyflux_transfer.errors import TrainingError
from pyflux_transfer.insight.belonging import DIRECTIONS
from pyflux_transfer.networks.tensors import Array, State
from pyflux_transfer.networks.units import resolve_cut
from pyflux_transfer.training import loop
from pyflux_transfer.training.belonging import of_others
from pyflux_transfer.training.callbacks import Record
from pyflux_transfer.training.examples import Batch, Cached, Examples, Maker
from pyflux_transfer.training.features import Features, Indices, fingerprint
from pyflux_transfer.training.options import UNDECISIVE, Options
from pyflux_transfer.training.plan import Phase
from pyflux_transfer.training.solver import only_dense, write_dense
from pyflux_transfer.training.trials import NONE_KEPT, Trial, Trials
from pyflux_transfer.training.verdict import LEAST, Answers, Ints, Start, Verdict, in_reach
from pyflux_transfer.training.ways import Way

STEPS = 60  # about as many as a way takes, within
FEWEST, MOST = 3, 8  # epochs
JUDGED = 128  # photos at least that judge a way: as many folds as that takes
VIEWS = 3  # augmented features a photo, beside the plain ones
ROOM = 2**32  # bytes for a way's features


@dataclass(frozen=True)
class Choice:
    """A way, how far to go from start to end, and what was found of it."""

    way: Way
    kept: float
    folds: int
    verdict: Verdict
    belonging: Array  # (M,) cosines of the photos that judged


class _LeftOutError(Exception):
    pass


@dataclass
class Deeper:
    """Tries ways on one data set, and follows the one that is chosen.

    The network must hold the head that is solved on all photos. Where following ends before its
    end, by an error or Ctrl-C, the network is as it was; after choosing it always is.
    """

    maker: Maker
    train: Dataset
    start: Start
    until: float = math.inf  # no trial goes on beyond this, by time.monotonic()
    trials: Trials = NONE_KEPT

    def __post_init__(self) -> None:
        self._network = self.maker.network
        self._quiet = replace(self.maker, told=False)
        crop = self.maker.preprocessing.crop
        self._image = (1, 3, crop, crop)
        self._before = self._network.state()

    def choose(self, ways: Sequence[Way], longest: int = 1) -> Choice | None:
        """Return the way that gains most, up to `longest` times as long; None where none pays."""
        try:
            best = self._best(ways)
            while best and best.way.times < longest and (longer := self._longer(best)):
                best = longer
        finally:
            self._network.load_state(self._before)
        return best

    def follow(self, choice: Choice) -> Iterator[Record]:
        """Train on all photos in the chosen way, yielding a record an epoch."""
        try:
            yield from self._steps(choice.way, np.arange(len(self.train.samples)), math.inf)
            self._go(self._before, self._network.state(), choice.kept)
        except BaseException:
            self._network.load_state(self._before)
            raise

    def epochs(self, way: Way, photos: int) -> int:
        """Return how many epochs so many photos train for: about `STEPS` steps, within limits."""
        steps = max(photos / self.maker.options.batch_size, 1)
        return way.times * min(max(round(STEPS / steps), FEWEST), MOST)

    def _best(self, ways: Sequence[Way]) -> Choice | None:
        """Return the way that gains most; None where none pays.

        Fold after fold judges. A way that has lost to the head, or to the best so far, by more
        than the standard error is not tried on the next.
        """
        trials: dict[Way, list[Trial]] = {way: [] for way in ways}
        found: list[Choice] = []
        for fold in self._judges():
            for way in list(trials):
                if trial := self._try(way, fold):
                    trials[way].append(trial)
                else:
                    del trials[way]
            found = self._in_reach([self._judge(way, done) for way, done in trials.items()])
            trials = {choice.way: trials[choice.way] for choice in found}
        for choice in found:
            self._say(choice)
        paying = [choice for choice in found if choice.verdict.pays]
        return max(paying, key=lambda choice: choice.verdict.gain, default=None)

    def _longer(self, choice: Choice) -> Choice | None:
        """Return the way twice as long; None where that is not better, or there is no time."""
        way, trials = replace(choice.way, times=2 * choice.way.times), list[Trial]()
        for fold in self._judges():
            trial = self._try(way, fold)
            if trial is None:
                return None
            trials.append(trial)
        found = self._judge(way, trials)
        self._say(found)
        further = Verdict.of(found.verdict.answers, choice.verdict.answers)
        return found if found.verdict.pays and further.gain > LEAST else None

    def _judges(self) -> list[int]:
        """Return the folds that judge: as many as hold enough photos."""
        sizes = np.bincount(self.start.folds[self.start.learnt])
        enough = int(np.searchsorted(sizes.cumsum(), JUDGED)) + 1
        return [fold for fold, size in enumerate(sizes[:enough]) if size]

    def _try(self, way: Way, fold: int) -> Trial | None:
        """Train without a fold, then ask about its photos; None where that cannot be done."""
        key = self._key(way, fold) if self.trials.folder else ""
        if kept := self.trials.read(key):
            return kept
        network, watcher, name = self._network, self.maker.watcher, way.name(self._network.units)
        photos = np.flatnonzero((self.start.folds == fold) & self.start.learnt)
        rest = np.flatnonzero(self.start.folds != fold)
        network.load_state(self._before)
        head = only_dense(network.units[resolve_cut(network.units, "head") :])
        write_dense(network, head, *self.start.heads[fold])
        begun, logits, scores = network.state(), dict[float, Array](), dict[float, Array]()
        try:
            with watcher.bar(f"trying {name}", self.epochs(way, len(rest)) * len(rest)) as advance:
                for _ in self._steps(way, rest, self.until):
                    advance(len(rest))
        except (TrainingError, _LeftOutError) as error:
            watcher.line(f"{name} is left out: {error}")
            return None
        end = network.state()
        for part in way.kept:
            self._go(begun, end, part)
            logits[part] = self._answer(photos)
            scores[part] = of_others(self._quiet, self.train, self.start, photos, fold)
        trial = Trial(photos, logits, scores)
        self.trials.write(key, trial)
        return trial

    def _key(self, way: Way, fold: int) -> str:
        """Return what a trial is kept under."""
        return hashlib.sha256(f"{self._setting} {way} {fold}".encode()).hexdigest()[:32]

    @cached_property
    def _setting(self) -> str:
        """Return a digest of what, beside way and fold, decides a trial."""
        network, options = self._network, self.maker.options.to_json()
        heads = {
            f"{fold} {i}": a
            for fold, both in enumerate(self.start.heads)
            for i, a in enumerate(both)
        }
        made_by = [
            [[sample.digest, sample.label] for sample in self.train.samples],
            self.start.folds.tolist(),
            {name: value for name, value in options.items() if name not in UNDECISIVE},
            self.maker.preprocessing.to_json(),
            [network.engine, network.precision, network.arithmetic, STEPS, VIEWS, DIRECTIONS],
            fingerprint({**self._before, **heads}),
        ]
        return hashlib.sha256(json.dumps(made_by).encode()).hexdigest()

    def _steps(self, way: Way, rows: Ints, until: float) -> Iterator[Record]:
        """Train on some photos, from the present weights on."""
        network = self._network
        cut = resolve_cut(network.units, way.stage(network.units))
        phase = Phase(cut, self.epochs(way, len(rows)), way.lr)
        network.cut_at(cut)
        _check_time(until)
        options = self._options(way, len(rows))
        network.prepare(options.update())
        examples = _Until(self._examples(options, rows), until)
        yield from loop.run_phase(
            network, phase, examples, lambda: None, options, self.start.truth.weights,
            self.maker.timer, number=2, before=1,
        )  # fmt: skip

    def _examples(self, options: Options, rows: Ints) -> Examples:
        """Return examples of some photos: as they are and, where asked for, augmented views."""
        maker, some = replace(self._quiet, options=options), self._some(rows)
        examples = maker.training(some)
        if not options.views:
            return examples
        assert isinstance(examples, Cached)
        return replace(examples, features=_beside(maker.plain(some), examples.features))

    def _options(self, way: Way, photos: int) -> Options:
        """Return the options of the steps; augmented views that find no room are not kept."""
        size = (
            4 * photos * math.prod(self._network.trace(self._image)[self._network.cut - 1].output)
        )
        if way.augment == "none" and size > ROOM:
            raise _LeftOutError(f"its features would take {size / 2**30:.0f} GiB")
        views = min(VIEWS, ROOM // size) if way.augment != "none" else 0
        return replace(
            self.maker.options, lr_decay=1.0, freeze_bn=True, augment=way.augment, views=views
        )

    def _answer(self, photos: Ints) -> Array:
        """Return the logits of some photos, by the present weights."""
        features = self._quiet.plain(self._some(photos))
        return loop.logits(self._network, features, self.maker.options.batch_size)

    def _go(self, start: State, end: State, kept: float) -> None:
        """Put the weights a part of the way from start to end into the network."""
        self._network.load_state({n: (1 - kept) * start[n] + kept * end[n] for n in end})

    def _judge(self, way: Way, trials: Sequence[Trial]) -> Choice:
        """Return how far to go this way, judged by all its trials."""
        photos = np.concatenate([trial.photos for trial in trials])
        truth = self.start.truth
        before = Answers.of(truth, photos, self.start.logits[photos])
        choices = []
        for kept in way.kept:
            logits = np.concatenate([trial.logits[kept] for trial in trials])
            scores = np.concatenate([trial.belonging[kept] for trial in trials])
            verdict = Verdict.of(Answers.of(truth, photos, logits), before)
            choices.append(Choice(way, kept, len(trials), verdict, scores))
        return max(choices, key=lambda choice: choice.verdict.gain)

    def _in_reach(self, found: Sequence[Choice]) -> list[Choice]:
        """Return what may yet turn out best; tell of the others."""
        near = in_reach([choice.verdict for choice in found])
        for choice, still in zip(found, near, strict=True):
            if not still:
                self._say(choice)
        return [choice for choice, still in zip(found, near, strict=True) if still]

    def _say(self, choice: Choice) -> None:
        name, verdict = choice.way.name(self._network.units), choice.verdict
        self.maker.watcher.line(
            f"{name}, judged by {len(verdict.answers.photos)} photos: {verdict.sentence()}"
        )

    def _some(self, rows: Ints) -> Dataset:
        """Return some of the photos."""
        return replace(self.train, samples=tuple(self.train.samples[i] for i in rows))


def _beside(plain: Features, views: Features) -> Features:
    """Return the features of photos, each with its augmented views behind it."""
    many = 1 + views.count // plain.count

    def take(rows: Indices) -> Array:
        photos, view = np.divmod(np.asarray(rows), many)
        found = np.empty((len(photos), *plain.shape), np.float32)
        found[view == 0] = plain.take(photos[view == 0])
        found[view > 0] = views.take((photos * (many - 1) + view - 1)[view > 0])
        return found

    return Features(plain.shape, plain.count * many, take)


@dataclass(frozen=True)
class _Until:
    """Examples that end with an error when the time is up."""

    examples: Examples
    until: float

    @property
    def count(self) -> int:
        """Images in an epoch."""
        return self.examples.count

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches as long as there is time."""
        for batch in self.examples.epoch(number):
            _check_time(self.until)
            yield batch


def _check_time(until: float) -> None:
    if time.monotonic() > until:
        raise _LeftOutError("the time is up")
