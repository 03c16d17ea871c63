"""The recipe: what `fit` does without options. Every photo trains, and folds judge.

The head is solved to its optimum; then stages before it train too, where photos held out say that
it pays. `quality` says how much is tried.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from pyflux_transfer.data.dataset import Dataset
from pyflux_transfer.engines.base import Network
from pyflux_transfer.errors import InputError, lookup
from pyflux_transfer.insight.metrics import Evaluation, evaluate
from pyflux_transfer.networks.preprocessing import Preprocessing
from pyflux_transfer.networks.units import resolve_cut
from pyflux_transfer.predict import softmax
from pyflux_transfer.training import loop
from pyflux_transfer.training.belonging import by_folds, told_by
from pyflux_transfer.training.callbacks import Record, Timer, Watcher, solved
from pyflux_transfer.training.deeper import Deeper
from pyflux_transfer.training.examples import Maker, labels_of
from pyflux_transfer.training.features import Cache
from pyflux_transfer.training.head import HeadResult, solve_head
from pyflux_transfer.training.options import Options
from pyflux_transfer.training.train import Run, Stopped, twice
from pyflux_transfer.training.trials import NONE_KEPT, Trials
from pyflux_transfer.training.verdict import estimated
from pyflux_transfer.training.ways import QUALITIES, Way

# The options that the recipe heeds; any other says how to take steps.
HEEDED = frozenset(
    {
        "label_smoothing",
        "class_weights",
        "batch_size",
        "seed",
        "precision",
        "workers",
        "max_pixels",
        "max_skipped",
    }
)
QUALITY = "good"
MINUTES = {"head": 0.0, "good": 10.0, "best": 60.0}  # for trials, where nobody says how many
LONGEST = {"head": 1, "good": 1, "best": 4}  # times as long as usual, where longer is better


@dataclass(frozen=True)
class Effort:
    """How much is tried: which ways deeper, for how many minutes, and how much longer each."""

    ways: tuple[Way, ...]
    minutes: float
    longest: int = 1

    @classmethod
    def of(cls, quality: str, minutes: float | None) -> Effort:
        """Return the effort of a quality; raise InputError for an unknown one, or minutes < 0."""
        ways = lookup(QUALITIES, quality, "quality")
        if minutes is not None and not minutes >= 0:
            raise InputError(f"minutes must be at least 0, got {minutes}.")
        return cls(ways, MINUTES[quality] if minutes is None else minutes, LONGEST[quality])


def follow(
    network: Network,
    preprocessing: Preprocessing,
    train: Dataset,
    valid: Dataset | None,
    options: Options,
    cache: Cache,
    watcher: Watcher,
    effort: Effort,
    trials: Trials = NONE_KEPT,
    made: Callable[[Maker], Maker] = lambda maker: maker,
) -> Run:
    """Find the best model for the training photos; validation images, where given, are told apart.

    A run that fails or is interrupted before the head is solved leaves the network as it was;
    Ctrl-C after that leaves the solved head. `made` may put another maker of examples in place of
    the usual one.
    """
    timer = Timer()
    stopped: Stopped = "finished"
    until = time.monotonic() + 60 * effort.minutes
    same = twice(train, valid, watcher)
    network.cut_at(resolve_cut(network.units, "head"))
    with cache.lasting() as cache:
        maker = made(Maker(network, preprocessing, options, cache, timer, watcher))
        found = _belonging(maker, train, solve_head(maker, train))
        records = [_record(found, timer)]
        solved(watcher, records[0])
        try:
            if found.start and effort.ways:
                further, found = _deepen(maker, train, found, effort, until, trials)
                records += further
        except KeyboardInterrupt:
            watcher.line("interrupted: the solved head stays")
            stopped = "interrupted"
        if found.belonging:
            watcher.line(found.belonging.sentence())
        if valid:
            _tell(maker, valid, found.temperature)
    skipped = (*train.skipped, *(valid.skipped if valid else ()))
    return Run(
        tuple(records), records[-1], dict(timer.seconds), skipped, same, stopped,
        found.estimate, found.temperature, _scores(found, train), found.belonging,
    )  # fmt: skip


def _scores(found: HeadResult, train: Dataset) -> Evaluation | None:
    """Return the scores of the answers to photos that were held out."""
    if not found.answers:
        return None
    shares = softmax(found.answers.logits, found.temperature)
    return evaluate(shares, labels_of(train)[found.answers.photos], train.classes)


def _record(found: HeadResult, timer: Timer) -> Record:
    judged = found.estimate
    return Record(
        1, 1, found.loss, judged.log_loss if judged else None,
        judged.accuracy if judged else None, 0.0, timer.seconds["tail"],
    )  # fmt: skip


def _deepen(
    maker: Maker,
    train: Dataset,
    head: HeadResult,
    effort: Effort,
    until: float,
    trials: Trials,
) -> tuple[list[Record], HeadResult]:
    """Try ways deeper and follow the best, if one pays; else the head stays as it is."""
    assert head.start
    say = maker.watcher.line
    deeper = Deeper(maker, train, head.start, until, trials)
    choice = deeper.choose(effort.ways, effort.longest)
    if choice is None:
        say("deeper training gains no more than luck may bring: the head alone is kept")
        return [], head
    name, answers = choice.way.name(maker.network.units), choice.verdict.answers
    say(f"{name}: this pays, so all photos train this way")
    records, epochs = list[Record](), 1 + deeper.epochs(choice.way, len(train.samples))
    for record in deeper.follow(choice):
        records.append(record)
        maker.watcher.epoch(record, epochs)
    assert head.estimate
    estimate = estimated(answers, choice.folds, head.decay, head.estimate.tried, name)
    say(f"{estimate.sentence()}, log loss {estimate.log_loss:.3f}")
    with maker.timer.measure("tail"):
        belonging = told_by(replace(maker, told=False), train, choice.belonging, answers.logits)
    found = replace(
        head, temperature=answers.temperature, estimate=estimate, answers=answers,
        belonging=belonging,
    )  # fmt: skip
    return records, found


def _belonging(maker: Maker, train: Dataset, found: HeadResult) -> HeadResult:
    """Add what belonging is, where photos could be held out."""
    if found.start is None:
        return found
    features = replace(maker, told=False).plain(train)
    with maker.timer.measure("tail"):
        return replace(found, belonging=by_folds(features, found.start))


def _tell(maker: Maker, valid: Dataset, temperature: float) -> None:
    """Say how good the model is on the validation images."""
    features, network = maker.validation(valid), maker.network
    with maker.timer.measure("validation"):
        loss, accuracy = loop.validate(
            network, features, labels_of(valid), maker.options.batch_size, temperature
        )
    maker.watcher.line(
        f"on {len(valid.samples)} validation images: accuracy {accuracy:.1%}, log loss {loss:.3f}"
    )
