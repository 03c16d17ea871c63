"""How a model is trained: from photos and options to a run, by the recipe or by steps."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pyflux_transfer.data.dataset import Dataset, Splits
from pyflux_transfer.data.source import told
from pyflux_transfer.errors import InputError
from pyflux_transfer.insight.belonging import Belonging
from pyflux_transfer.model import Model, compute_in, refuse_imagenet
from pyflux_transfer.networks.units import resolve_cut
from pyflux_transfer.storage import check_writable
from pyflux_transfer.training import recipe
from pyflux_transfer.training.belonging import by_validation
from pyflux_transfer.training.callbacks import Timer, Watcher
from pyflux_transfer.training.examples import Maker
from pyflux_transfer.training.features import Cache
from pyflux_transfer.training.head import linear, solve_head
from pyflux_transfer.training.options import Options
from pyflux_transfer.training.plan import Phase
from pyflux_transfer.training.runs import FILE as RUN_FILE
from pyflux_transfer.training.train import Job, Run, train
from pyflux_transfer.training.trials import FOLDER as TRIALS
from pyflux_transfer.training.trials import Trials


def starts_unsolved(model: Model) -> bool:
    """Tell whether the head is as it was made, and could be solved."""
    return "training" not in model.info and linear(model.network)


@dataclass(frozen=True)
class Fitting:
    """What `fit` and `fine_tune` are given; the model is altered in place."""

    model: Model
    data: str | Path | Splits
    valid: str | Path | float | None
    options: Options
    run_dir: str | Path | None
    resume: bool
    cache: Cache
    watcher: Watcher

    def by_recipe(self, effort: recipe.Effort) -> Run:
        """Follow the recipe."""
        model, watcher = self.model, self.watcher
        trials = Trials.of(self._folder(f"{TRIALS}/one"), self.resume)
        training, validation = self._begin()
        head = resolve_cut(model.network.units, "head")
        if "training" in model.info and model.network.cut < head:
            watcher.line("the trunk was trained before: were it on these photos, they flatter it")
        run = recipe.follow(
            model.network, model.preprocessing, training, validation, self.options,
            self.cache, watcher, effort, trials,
        )  # fmt: skip
        model.temperature, model.belonging = run.temperature, run.belonging
        estimate = run.estimate and run.estimate.to_json()
        how = {"estimate": estimate, "temperature": run.temperature}
        return self._remember(run, training, recipe=how)

    def by_steps(self, phases: tuple[Phase, ...]) -> Run:
        """Train by steps, phase after phase."""
        model, watcher = self.model, self.watcher
        folder = self._folder(RUN_FILE)
        training, validation = self._begin()
        head = resolve_cut(model.network.units, "head")
        if phases[0].cut < head and starts_unsolved(model):
            watcher.line("deeper steps start from a solved head")
            model.network.cut_at(head)
            maker = Maker(
                model.network, model.preprocessing, self.options, self.cache, Timer(), watcher
            )
            solve_head(maker, training)
        job = Job(
            model.network, model.preprocessing, training, validation, phases, self.options,
            self.cache, folder, self.resume,
        )  # fmt: skip
        model.temperature, model.belonging = 1.0, None
        run = self._belonging(train(job, watcher), training, validation)
        model.belonging = run.belonging
        return self._remember(run, training, phases=[asdict(phase) for phase in phases])

    def _belonging(self, run: Run, training: Dataset, validation: Dataset | None) -> Run:
        """Add what belonging is; validation photos place its threshold."""
        found: Belonging | None = None
        if validation:
            maker = Maker(
                self.model.network, self.model.preprocessing, self.options, self.cache, Timer(),
                self.watcher, told=False,
            )  # fmt: skip
            found = by_validation(maker, training, validation)
        none = "no photos were held out, so the model cannot tell which photos are none of these"
        self.watcher.line(found.sentence() if found else none)
        return replace(run, belonging=found)

    def _remember(self, run: Run, training: Dataset, **how: Any) -> Run:
        """Keep what the bundle tells of its training, and return the run."""
        self.model.info["training"] = {
            "images": len(training.samples),
            "options": self.options.to_json(),
            **how,
            "best": run.best.to_json(),
            "seconds": run.seconds,
            "history": run.history,
        }
        return run

    def _begin(self) -> tuple[Dataset, Dataset | None]:
        """Return training and validation images, and say what a run begins with."""
        model, options, say = self.model, self.options, self.watcher.line
        refuse_imagenet(model)
        say(model.engine)
        reader = options.reader(self.watcher)
        training, validation = reader.divided(self.data, self.valid, model.classes, options.seed)
        groups = f" in {len(training.groups)} groups" if training.groups else ""
        say(
            f"{len(training.samples)} images of {len(model.classes)} classes{groups} to train, "
            f"{len(validation.samples) if validation else 0} to validate"
        )
        say(told(training))
        if options.precision not in (None, model.plan.precision):
            compute_in(model, options.precision)
        return training, validation

    def _folder(self, file: str) -> Path | None:
        """Return the run's folder; refuse one in which its file could not be written."""
        if self.run_dir is None:
            if self.resume:
                raise InputError("resume=True needs run_dir=, the folder of the run to go on with.")
            return None
        check_writable(Path(self.run_dir) / file)
        return Path(self.run_dir)
