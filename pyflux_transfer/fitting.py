"""How a model is trained: from photos and options to a run, by the recipe or by steps."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pyflux_transfer.data import augment
from pyflux_transfer.data.dataset import Dataset, Splits
from pyflux_transfer.data.listing import Labelled
from pyflux_transfer.data.source import told
from pyflux_transfer.engines import refuse_evaluating
from pyflux_transfer.engines.choice import emulated
from pyflux_transfer.errors import InputError, PyFluxTransferError
from pyflux_transfer.insight.belonging import Belonging
from pyflux_transfer.judgement import judge
from pyflux_transfer.loading import save
from pyflux_transfer.model import Model, compute_in, refuse_imagenet
from pyflux_transfer.networks.units import resolve_cut
from pyflux_transfer.storage import check_writable
from pyflux_transfer.tracking.telling import Telling, telling
from pyflux_transfer.tracking.tracker import Log
from pyflux_transfer.training import recipe, results
from pyflux_transfer.training.belonging import by_validation
from pyflux_transfer.training.callbacks import Silent, Timer, Watcher
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
    data: Labelled | Splits
    valid: Labelled | float | None
    options: Options
    run_dir: str | Path | None
    resume: bool
    cache: Cache
    watcher: Watcher
    log: Log = None

    def __post_init__(self) -> None:
        refuse_evaluating(self.model.network.engine)

    def by_recipe(
        self, effort: recipe.Effort, made: Callable[[Maker], Maker] = lambda maker: maker
    ) -> Run:
        """Follow the recipe; `made` is as in `recipe.follow`."""
        with telling(self.log, self.watcher, self.model.plan.architecture.name) as told:
            return replace(self, watcher=told)._by_recipe(effort, made, told)

    def by_steps(self, phases: tuple[Phase, ...]) -> Run:
        """Train by steps, phase after phase."""
        with (
            telling(self.log, self.watcher, self.model.plan.architecture.name) as told,
            self.cache.lasting() as cache,  # belonging asks for the same features again
        ):
            return replace(self, watcher=told, cache=cache)._by_steps(phases, told)

    def _by_recipe(
        self, effort: recipe.Effort, made: Callable[[Maker], Maker], told: Telling
    ) -> Run:
        model, watcher = self.model, self.watcher
        trials = Trials.of(self._folder(f"{TRIALS}/one"), self.resume)
        training, validation = self._begin()
        self._tell_setup(told, training, validation, {"minutes": effort.minutes})
        head = resolve_cut(model.network.units, "head")
        if "training" in model.info and model.network.cut < head:
            watcher.line("the trunk was trained before: were it on these photos, they flatter it")
        run = recipe.follow(
            model.network, model.preprocessing, training, validation, self.options,
            self.cache, watcher, effort, trials, made,
        )  # fmt: skip
        model.temperature, model.belonging = run.temperature, run.belonging
        estimate = run.estimate and run.estimate.to_json()
        how = {"estimate": estimate, "temperature": run.temperature}
        return self._remember(run, told, training, validation, recipe=how)

    def _by_steps(self, phases: tuple[Phase, ...], told: Telling) -> Run:
        model, watcher = self.model, self.watcher
        folder = self._folder(RUN_FILE)
        training, validation = self._begin()
        self._tell_setup(told, training, validation, _told_phases(phases))
        head = resolve_cut(model.network.units, "head")
        if phases[0].cut < head and starts_unsolved(model):
            watcher.line("deeper steps start from a solved head")
            model.network.cut_at(head)
            maker = Maker(
                model.network, model.preprocessing, self.options, self.cache, Timer(), watcher
            )
            # The steps train on the features at their cut; of augmented ones the head is not made.
            plain = not augment.names(self.options.augment)
            solve_head(maker, training, maker.onward(training, phases[0].cut) if plain else None)
        job = Job(
            model.network, model.preprocessing, training, validation, phases, self.options,
            self.cache, folder, self.resume,
        )  # fmt: skip
        model.temperature, model.belonging = 1.0, None
        run = self._belonging(train(job, watcher), training, validation)
        model.belonging = run.belonging
        steps = [asdict(phase) for phase in phases]
        return self._remember(run, told, training, validation, phases=steps)

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

    def _remember(
        self, run: Run, told: Telling, training: Dataset, validation: Dataset | None, **how: Any
    ) -> Run:
        """Keep what the bundle and the run's folder tell of the training, and return the run."""
        self.model.info["training"] = {
            "images": len(training.samples),
            "options": self.options.to_json(),
            **how,
            "best": run.best.to_json(),
            "seconds": run.seconds,
            "history": run.history,
        }
        if self.run_dir is not None:
            results.write(Path(self.run_dir), run.records)
        if told.wanted:
            self._tell(run, told, validation)
        return run

    def _tell_setup(
        self, told: Telling, training: Dataset, validation: Dataset | None, how: dict[str, Any]
    ) -> None:
        """Tell trackers what the run is made from."""
        model = self.model
        told.parameters({
            "architecture": model.plan.architecture.name,
            "weights": model.info.get("weights"),
            "engine": model.network.engine,
            "computed_in": model.network.precision,
            "classes": len(model.classes),
            "images": len(training.samples),
            "validation_images": len(validation.samples) if validation else 0,
            "image_size": model.preprocessing.crop,
            "fit": model.preprocessing.fit,
            "way": "steps" if "phases" in how else "recipe",
            **how,
            **self.options.to_json(),
        })  # fmt: skip

    def _tell(self, run: Run, told: Telling, validation: Dataset | None) -> None:
        """Tell trackers what came out, and give them the bundle."""
        try:
            scores = run.evaluation
            if not scores and validation:
                photos = Splits(Dataset((), validation.classes), valid=validation)
                scores = judge(self.model, photos, self.options, Silent()).evaluation()
            told.outcome(run, scores)
            with tempfile.TemporaryDirectory() as folder:
                told.file(save(self.model, Path(folder) / "model.safetensors"))
            told.end("interrupted" if run.stopped == "interrupted" else "finished")
        except (PyFluxTransferError, OSError, KeyboardInterrupt) as error:
            # The model is there: whatever happens here must not lose it.
            told.line(f"trackers are not told the rest: {error or 'interrupted'}")
            told.end("interrupted")

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
        if slow := emulated(model.plan.precision, model.network.device):
            say(slow)
        return training, validation

    def _folder(self, file: str) -> Path | None:
        """Return the run's folder; refuse one in which its file could not be written."""
        if self.run_dir is None:
            if self.resume:
                raise InputError("resume=True needs run_dir=, the folder of the run to go on with.")
            return None
        check_writable(Path(self.run_dir) / file)
        return Path(self.run_dir)


def _told_phases(phases: tuple[Phase, ...]) -> dict[str, Any]:
    """Return what steps are taken, for trackers."""
    last = phases[-1]
    return {
        "phases": len(phases), "cut": min(phase.cut for phase in phases),
        "epochs": sum(phase.epochs for phase in phases), "lr": last.lr,
    }  # fmt: skip
