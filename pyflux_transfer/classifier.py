"""The facade people use: load a network, give it a head, train, predict, evaluate, save."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pyflux_transfer import bundle as bundles
from pyflux_transfer import engines, predict
from pyflux_transfer._version import __version__
from pyflux_transfer.bundle import Bundle
from pyflux_transfer.data.batches import batches
from pyflux_transfer.data.dataset import (
    CHECKED,
    MAX_SKIPPED,
    Dataset,
    Sample,
    Skipped,
    Splits,
    read_sample,
    straddling,
)
from pyflux_transfer.data.decode import MAX_PIXELS, Source
from pyflux_transfer.data.preprocess import load as load_image
from pyflux_transfer.data.source import Reader, told
from pyflux_transfer.engines import files
from pyflux_transfer.engines.base import Network, Plan, Precision
from pyflux_transfer.errors import ImageError, InputError, WeightsError
from pyflux_transfer.insight.metrics import Evaluation, evaluate
from pyflux_transfer.networks.catalog import Architecture, architecture, imagenet_classes
from pyflux_transfer.networks.head import Head, class_names
from pyflux_transfer.networks.numbers import plain
from pyflux_transfer.networks.preprocessing import Preprocessing
from pyflux_transfer.networks.slicing import Slice, chain_slice
from pyflux_transfer.networks.start import start
from pyflux_transfer.networks.tensors import Array, State
from pyflux_transfer.networks.units import Unit, resolve_cut
from pyflux_transfer.networks.weights.fit import fitted
from pyflux_transfer.networks.weights.table import Weights
from pyflux_transfer.predict import Prediction
from pyflux_transfer.storage import check_writable, features_folder
from pyflux_transfer.training import recipe
from pyflux_transfer.training.callbacks import Silent, Timer, Watcher
from pyflux_transfer.training.examples import Maker
from pyflux_transfer.training.features import Cache, Item, extract
from pyflux_transfer.training.head import linear, solve_head
from pyflux_transfer.training.options import Options
from pyflux_transfer.training.plan import Phase, gradual
from pyflux_transfer.training.runs import FILE as RUN_FILE
from pyflux_transfer.training.train import Job, Run, train
from pyflux_transfer.training.trials import FOLDER as TRIALS
from pyflux_transfer.training.trials import Trials

if TYPE_CHECKING:
    from typing import TypeGuard

    from typing_extensions import Unpack

    from pyflux_transfer.training.options import OptionFields

HEAD_RATE, DEEPER_RATE = 1e-3, 1e-4
FREEZE_EPOCHS = 3
EPOCHS, SHARE = 5, 0.2  # of steps, and of the photos that are held back to judge them


@dataclass
class Classifier:
    """A network with named classes, and what can be done with it."""

    network: Network
    plan: Plan
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    engine: str  # which engine was chosen, and why
    info: dict[str, Any] = field(default_factory=dict)
    temperature: float = 1.0  # which logits are divided by; 1 after training by steps
    headless: bool = False  # the weights brought no head for these classes: it is random

    @property
    def units(self) -> Sequence[Unit]:
        """The steps of the network's chain, in order."""
        return self.network.units

    def __len__(self) -> int:
        """Count the units."""
        return len(self.network.units)

    def __getitem__(self, key: int | str | slice) -> Slice:
        """Slice the chain by unit index or stage name: `net[:-1]`, `net["stage1":"stage3"]`."""
        return chain_slice(self.network, key)

    def with_head(
        self,
        classes: Sequence[str],
        *,
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
        activation: str = "relu",
        keep: Literal["hidden", "classifier"] | None = None,
        seed: int = 0,
    ) -> Classifier:
        """Return a new classifier: this one's trunk, copied, and a fresh head for `classes`.

        The head is pool → flatten → [Dense(width) → activation → Dropout] for each width in
        `hidden` → Dense(classes). `keep="hidden"` keeps the pretrained hidden Dense layers (VGG,
        AlexNet), `keep="classifier"` the whole old classifier, with one Dense behind it.
        """
        names = class_names(classes)
        widths = plain(hidden)
        if isinstance(widths, (int, float)):
            raise InputError(f"hidden must be a list of widths, got {hidden!r}. Give ({hidden},).")
        head = Head(len(names), tuple(widths), dropout, activation, keep)
        plan = replace(self.plan, head=head, seed=seed)
        full = self.plan.architecture.units
        if keep:
            self._refuse_headless()
        old = [u for u in self.units if u.stage != "head" or (keep and u in full)]
        fresh = [unit for unit in plan.units if unit not in old]
        if keep and any(unit in full for unit in fresh):
            raise InputError(
                f"keep={keep!r} keeps the pretrained classifier, which this network has lost to "
                "an earlier head. Load the architecture anew, or leave keep out."
            )
        kept = {name for unit in plan.units if unit in old for name in unit.tensors}
        state = {name: value for name, value in self.network.state().items() if name in kept}
        network = engines.build(self.network.engine, replace(plan, seed=None))
        network.load_state({**state, **start(fresh, seed)})
        network.cut_at(resolve_cut(network.units, "head"))
        info = {k: v for k, v in self.info.items() if k == "weights"}
        return Classifier(network, plan, names, self.preprocessing, self.engine, info)

    def fit(
        self,
        data: str | Path | Splits,
        *,
        valid: str | Path | float | None = "auto",
        cut: int | str | None = None,
        epochs: int | None = None,
        lr: float | None = None,
        quality: str | None = None,
        minutes: float | None = None,
        run_dir: str | Path | None = None,
        resume: bool = False,
        cache: bool | Cache = True,
        watcher: Watcher | None = None,
        **options: Unpack[OptionFields],
    ) -> Run:
        """Train on a folder with one folder a class, a CSV (`path,label[,split]`), or `Splits`.

        Without options the recipe is followed: the head is solved to its optimum on all photos,
        then stages before it train where photos held out say that it pays; cross-validation makes
        all choices and estimates how good the model is. `quality` is "head" (no further), "good"
        (the default) or "best" (more ways are tried); after so many `minutes`, by default 10 or
        60, no more is tried. `run_dir` keeps what was tried, and `resume` goes on behind that.

        Options of steps (all but those in `recipe.HEEDED`) train by steps instead: everything from
        `cut` on, by default the head, for 5 `epochs`; what lies before stays frozen. A deeper cut
        starts from a solved head, unless the model was trained before. `lr` is the head's rate, by
        default 1e-3, or 1e-4 when deeper stages train. The best epoch's weights stay. With
        `run_dir` each epoch is kept there, and `resume` goes on with it. A head with hidden layers
        or dropout is trained by steps too.

        `valid` is a folder, a share (0–1) taken from the training images, which steps need, or
        None; "auto" is 0.2 for steps, nothing for the recipe. A source that brings its own
        validation images uses them. Other options are the fields of `Options`.
        """
        chosen = Options.of(options, beside=Classifier.fit.__kwdefaults__)
        valid = plain(valid)
        share = isinstance(valid, (int, float)) and bool(valid)
        named = share or any(x is not None for x in (cut, epochs, lr))
        steps = named or bool(set(options) - recipe.HEEDED)
        effort = recipe.Effort.of(quality or recipe.QUALITY, minutes)
        if steps and (quality, minutes) != (None, None):
            raise InputError(
                "quality and minutes belong to the recipe, which chooses all steps itself: leave "
                "them out, or the options of steps."
            )
        if not steps:
            if linear(self.network):
                return self._follow_recipe(
                    data, valid, chosen, effort, run_dir, resume, cache, watcher
                )
            if watcher:
                watcher.line("the head is more than one Dense layer, so it is trained by steps")
        index = resolve_cut(self.units, "head" if cut is None else cut)
        usual = HEAD_RATE if self.units[index].stage == "head" else DEEPER_RATE
        length = EPOCHS if epochs is None else epochs
        phases = (Phase(index, length, usual if lr is None else lr),)
        valid = SHARE if valid == "auto" else valid
        return self._train(data, valid, phases, chosen, run_dir, resume, cache, watcher)

    def fine_tune(
        self,
        data: str | Path | Splits,
        *,
        freeze_epochs: int | None = None,
        epochs: int = 5,
        depth: int = 1,
        lr: float = HEAD_RATE,
        fine_lr: float = DEEPER_RATE,
        valid: str | Path | float | None = 0.2,
        run_dir: str | Path | None = None,
        resume: bool = False,
        cache: bool | Cache = True,
        watcher: Watcher | None = None,
        **options: Unpack[OptionFields],
    ) -> Run:
        """Train the head first, then gradually deeper: the last stage, … the last `depth` stages.

        The head alone trains for `freeze_epochs` at `lr`; by default it is solved to its optimum
        where it has not been trained and is one Dense layer, else it trains for 3. `epochs` at
        `fine_lr` are shared among the deeper phases. The rest is as in `fit`.
        """
        if freeze_epochs is None:
            freeze_epochs = 0 if self._starts_unsolved else FREEZE_EPOCHS
        phases = gradual(self.units, freeze_epochs, epochs, lr, fine_lr, depth)
        chosen = Options.of(options, beside=Classifier.fine_tune.__kwdefaults__)
        return self._train(data, valid, phases, chosen, run_dir, resume, cache, watcher)

    def _follow_recipe(
        self,
        data: str | Path | Splits,
        valid: str | Path | float | None,
        options: Options,
        effort: recipe.Effort,
        run_dir: str | Path | None,
        resume: bool,
        cache: bool | Cache,
        watcher: Watcher | None,
    ) -> Run:
        watcher = watcher or Silent()
        trials = Trials.of(_run_folder(run_dir, f"{TRIALS}/one", resume), resume)
        given = None if valid == "auto" else valid
        training, validation = self._begin(data, given, options, watcher)
        if "training" in self.info and self.network.cut < resolve_cut(self.units, "head"):
            watcher.line("the trunk was trained before: were it on these photos, they flatter it")
        run = recipe.follow(
            self.network, self.preprocessing, training, validation, options,
            cache_of(cache), watcher, effort, trials,
        )  # fmt: skip
        self.temperature = run.temperature
        estimate = run.estimate and run.estimate.to_json()
        how = {"estimate": estimate, "temperature": run.temperature}
        return self._remember(run, training, options, recipe=how)

    def _train(
        self,
        data: str | Path | Splits,
        valid: str | Path | float | None,
        phases: tuple[Phase, ...],
        options: Options,
        run_dir: str | Path | None,
        resume: bool,
        cache: bool | Cache,
        watcher: Watcher | None,
    ) -> Run:
        folder = _run_folder(run_dir, RUN_FILE, resume)
        watcher, kept = watcher or Silent(), cache_of(cache)
        training, validation = self._begin(data, valid, options, watcher)
        if phases[0].cut < resolve_cut(self.units, "head") and self._starts_unsolved:
            watcher.line("deeper steps start from a solved head")
            self.network.cut_at(resolve_cut(self.units, "head"))
            maker = Maker(self.network, self.preprocessing, options, kept, Timer(), watcher)
            solve_head(maker, training)
        job = Job(
            self.network, self.preprocessing, training, validation, phases, options,
            kept, folder, resume,
        )  # fmt: skip
        self.temperature = 1.0
        run = train(job, watcher)
        return self._remember(run, training, options, phases=[asdict(phase) for phase in phases])

    @property
    def _starts_unsolved(self) -> bool:
        """Tell whether the head is as it was made, and could be solved."""
        return "training" not in self.info and linear(self.network)

    def _remember(self, run: Run, training: Dataset, options: Options, **how: Any) -> Run:
        """Keep what the bundle tells of its training, and return the run."""
        self.info["training"] = {
            "images": len(training.samples),
            "options": options.to_json(),
            **how,
            "best": run.best.to_json(),
        }
        return run

    def _begin(
        self,
        data: str | Path | Splits,
        valid: str | Path | float | None,
        options: Options,
        watcher: Watcher,
    ) -> tuple[Dataset, Dataset | None]:
        """Return training and validation images, and say what a run begins with."""
        self._refuse_imagenet()
        watcher.line(self.engine)
        reader = Reader(
            options.workers, options.max_pixels, watcher.bar, watcher.line, options.max_skipped
        )
        training, validation = reader.divided(data, valid, self.classes, options.seed)
        groups = f" in {len(training.groups)} groups" if training.groups else ""
        watcher.line(
            f"{len(training.samples)} images of {len(self.classes)} classes{groups} to train, "
            f"{len(validation.samples) if validation else 0} to validate"
        )
        watcher.line(told(training))
        if options.precision not in (None, self.plan.precision):
            self._compute_in(options.precision)
        return training, validation

    def _compute_in(self, precision: Precision) -> None:
        """Build the network anew with another precision and the same weights."""
        plan = replace(self.plan, precision=precision)
        network = engines.build(self.network.engine, replace(plan, seed=None))
        network.load_state(self.network.state())
        network.cut_at(self.network.cut)
        self.network, self.plan = network, plan

    def _refuse_imagenet(self) -> None:
        if self.plan.head is None:
            raise InputError(
                "This network still has its 1000 ImageNet classes. Give it a head for yours: "
                "net.with_head(['ants', 'bees'])."
            )

    def _refuse_headless(self) -> None:
        if self.headless:
            raise InputError(
                "The weights of this network came without a head for its 1000 ImageNet classes. "
                "Give it one for yours: net.with_head(['ants', 'bees'])."
            )

    def predict(
        self,
        images: Source | Iterable[Source],
        *,
        top: int = 3,
        batch_size: int = 16,
        max_pixels: int = MAX_PIXELS,
    ) -> list[Prediction]:
        """Return the label and the `top` probabilities of each image.

        `images` is a path, a folder, a pattern (`photos/*.jpg`), bytes, an open file, a PIL image,
        an array (H,W,3) or (N,H,W,3) uint8, an iterable of these, or preprocessed (N,3,H,W)
        float32. Raises ImageError for an unreadable one; `predict.predict` goes on instead.
        """
        self._refuse_headless()
        answers = []
        for answer in predict.predict(
            self.network, self.classes, self.preprocessing, images, top=top, batch_size=batch_size,
            temperature=self.temperature, max_pixels=max_pixels,
        ):  # fmt: skip
            if isinstance(answer, Skipped):
                raise ImageError(answer.reason)
            answers.append(answer)
        return answers

    def evaluate(
        self,
        data: str | Path | Splits,
        *,
        batch_size: int = 16,
        max_pixels: int = MAX_PIXELS,
        max_skipped: float = MAX_SKIPPED,
        watcher: Watcher | None = None,
    ) -> Evaluation:
        """Return accuracy, balanced accuracy, per-class scores, confusion, log loss and ECE.

        `data` is as in `fit`, and need not hold images of every class; of several splits the test
        images are taken, else the validation images, else all. Images that cannot be read are named
        to the watcher and left out, up to a share of `max_skipped`.
        """
        self._refuse_imagenet()
        watcher = watcher or Silent()
        options = Options(batch_size=batch_size, max_pixels=max_pixels, max_skipped=max_skipped)
        reader = Reader(options.workers, max_pixels, watcher.bar, watcher.line, max_skipped)
        *others, dataset = reader.read(data, self.classes, training=False).parts
        if torn := [group for part in others for group in straddling(part, dataset)]:
            watcher.line(
                f"{len(set(torn))} groups of these images stand in other splits too, which "
                f"flatters the scores: {torn[0]}" + (" …" if len(set(torn)) > 1 else "")
            )
        for item in dataset.skipped:
            watcher.line(f"skipped {item.path}: {item.reason}")
        read = partial(_load, preprocessing=self.preprocessing)
        answers, labels = [], []
        with watcher.bar("evaluation", len(dataset.samples)) as advance:
            for x, y in batches(read, dataset.samples, batch_size, workers=options.workers):
                answers.append(predict.probabilities(self.network, x, self.temperature))
                labels.append(y)
                advance(len(y))
        return evaluate(np.concatenate(answers), np.concatenate(labels), self.classes)

    def features(
        self,
        data: str | Path | Splits,
        *,
        cut: int | str = "head",
        cache: bool | Cache = True,
        max_pixels: int = MAX_PIXELS,
        max_skipped: float = MAX_SKIPPED,
        watcher: Watcher | None = None,
    ) -> tuple[Array, list[str], list[str]]:
        """Return what the units before `cut` make of all images (N, …), their labels and paths."""
        watcher = watcher or Silent()
        options = Options(max_pixels=max_pixels, max_skipped=max_skipped)
        reader = Reader(options.workers, max_pixels, watcher.bar, watcher.line, max_skipped)
        splits = reader.read(data, training=False)
        samples = [sample for part in splits.parts for sample in part.samples]
        cut_before = self.network.cut
        self.network.cut_at(resolve_cut(self.units, cut))
        try:
            found = extract(
                self.network, self.preprocessing, [Item(sample) for sample in samples],
                partial(_load, preprocessing=self.preprocessing), cache_of(cache),
                batch_size=options.batch_size, workers=options.workers,
                timer=Timer(), watcher=watcher, title="features",
            )  # fmt: skip
        finally:
            self.network.cut_at(cut_before)
        labels = [splits.train.classes[sample.label] for sample in samples]
        return found.take(range(found.count)), labels, [str(sample.path) for sample in samples]

    def save(self, path: str | Path) -> Path:
        """Write the bundle (one `.safetensors` file) atomically and return its path."""
        if Path(path).suffix != ".safetensors":
            raise InputError(f"A bundle's name must end in .safetensors, got '{path}'.")
        self._refuse_headless()
        engine = self.network.engine
        info = {
            **self.info,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "engine": engine,
            "precision": self.network.precision,
            "versions": {
                "pyflux-transfer": __version__,
                "python": platform.python_version(),
                **_versions({"flux": "juliacall"}.get(engine, engine)),
            },
        }
        bundle = Bundle(
            self.plan.architecture.name, self.classes, self.plan.head, self.preprocessing,
            self.network.cut, self.network.state(), info, self.temperature,
        )  # fmt: skip
        return bundles.write(path, bundle)

    def summary(self) -> None:
        """Print a table of the units: layer, input and output shape, parameters, trainable."""
        from pyflux_transfer.insight.summary import summary  # starts rich

        summary(self.network, self.preprocessing.crop)


def load(
    name: str | Path,
    *,
    weights: str | Path | None = "imagenet",
    engine: str = "auto",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Precision = "auto",
    seed: int = 0,
) -> Classifier:
    """Load a network by its architecture's name, or a trained bundle by its path.

    `weights` is "imagenet" (the first tag that `pyflux-transfer models` lists), a tag, a path to
    `.safetensors`, `.pth`, `.pt`, or None (also "none", as on the command line) for a random start
    from `seed`; a bundle, given as either, brings its own, its classes and head. A file without the
    head of the 1000 ImageNet classes, or with another, gives what comes before it. `engine` is
    "auto", "flux" or "torch". `precision` of the frozen trunk and of prediction is "fp32", "bf16",
    or "auto": bf16 where the processor computes it and a check agrees. Raises InputError for an
    unknown architecture or tag, WeightsError or BundleError for a file that does not
    fit, EngineError where none can start.
    """
    if Path(name).suffix == ".safetensors":
        return _from_bundle(bundles.read(name), engine, device, precision)
    row = architecture(str(name))
    if _is_bundle(weights):
        bundle = bundles.read(weights)
        if bundle.architecture != row.name:
            raise WeightsError(
                f"'{weights}' is a bundle of {bundle.architecture}, not of {row.name}. "
                f"Give it as the network itself: load('{weights}')."
            )
        return _from_bundle(bundle, engine, device, precision)
    chosen, why = engines.choose(engine)
    plan = Plan(row, None, seed, precision, device)
    published = _published(row, weights)
    headless = False
    if weights is None or weights == "none":
        network = engines.build(chosen, plan)
    else:
        network = engines.build(chosen, replace(plan, seed=None))
        if published:
            state = engines.pretrained(chosen, row, published.tag)
        else:
            state, headless = _given(plan, weights)
        network.load_state(state)
    if headless:
        why += "; the weights' own head does not fit and was left out"
    network.cut_at(resolve_cut(network.units, "head"))
    preprocessing = published.preprocessing if published else row.preprocessing
    info = {"weights": published.tag} if published else {}
    return Classifier(
        network, plan, imagenet_classes(), preprocessing, why, info, headless=headless
    )


def _is_bundle(weights: str | Path | None) -> TypeGuard[str | Path]:
    given = weights is not None and Path(weights).suffix == ".safetensors"
    return given and bundles.is_bundle(str(weights))


def _published(row: Architecture, given: str | Path | None) -> Weights | None:
    """Return the published weights that are meant; None for a file, a random start and the rest."""
    known = given == "imagenet" or given in [weights.tag for weights in row.weights]
    return row.tagged(str(given)) if known else None


def _given(plan: Plan, given: str | Path) -> tuple[State, bool]:
    """Return the weights of a file, and whether their head begins at random."""
    row = plan.architecture
    if not Path(given).suffix:
        tags = ", ".join(weights.tag for weights in row.weights)
        raise InputError(
            f"Unknown weights {str(given)!r} of {row.name}. Give imagenet, a published tag "
            f"({tags}), a file, or none."
        )
    return fitted(files.read(given), plan.units, plan.seed or 0)


def _from_bundle(
    bundle: Bundle, engine: str, device: Literal["auto", "cpu", "cuda"], precision: Precision
) -> Classifier:
    chosen, why = engines.choose(engine)
    network = predict.restore(bundle, chosen, device, precision)
    plan = Plan(bundle.row, bundle.head, 0, precision, device)
    return Classifier(
        network, plan, bundle.classes, bundle.preprocessing, why, dict(bundle.info),
        bundle.temperature,
    )  # fmt: skip


def _versions(package: str) -> dict[str, str]:
    """Return the installed version of a package; an engine need not come in one."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return {package: metadata.version(package)}
    return {}


def _load(item: Sample | Item, preprocessing: Preprocessing) -> Array:
    sample = item.sample if isinstance(item, Item) else item
    return read_sample(sample, partial(load_image, preprocessing=preprocessing, max_pixels=CHECKED))


def _run_folder(given: str | Path | None, file: str, resume: bool) -> Path | None:
    """Return a run's folder; refuse one in which its file could not be written."""
    if given is None:
        if resume:
            raise InputError("resume=True needs run_dir=, the folder of the run to go on with.")
        return None
    check_writable(Path(given) / file)
    return Path(given)


def cache_of(given: bool | Cache) -> Cache:
    """Return where features are kept: the user's cache folder for True, nowhere for False."""
    if isinstance(given, Cache):
        return given
    return Cache(features_folder() if given else None)
