"""The facade people import: load a network, give it a head, train, predict, evaluate, save."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pyflux_transfer import checkpoint, engines, predict, weights
from pyflux_transfer._version import __version__
from pyflux_transfer.catalog import Preprocessing, architecture
from pyflux_transfer.checkpoint import Bundle
from pyflux_transfer.data.batches import batches
from pyflux_transfer.data.dataset import Dataset, Sample, Skipped, Splits, scan, split
from pyflux_transfer.data.decode import Source
from pyflux_transfer.data.preprocess import load as load_image
from pyflux_transfer.engines.base import Array, Network, Plan, Precision, State
from pyflux_transfer.engines.start import start
from pyflux_transfer.errors import ImageError, InputError
from pyflux_transfer.head import Head
from pyflux_transfer.metrics import Evaluation, evaluate
from pyflux_transfer.predict import Prediction
from pyflux_transfer.slicing import Slice, chain_slice
from pyflux_transfer.training import store
from pyflux_transfer.training.callbacks import Silent, Timer, Watcher
from pyflux_transfer.training.features import Cache, Item, extract
from pyflux_transfer.training.options import Options
from pyflux_transfer.training.plan import Phase, gradual
from pyflux_transfer.training.train import Job, Run, train
from pyflux_transfer.units import Unit, resolve_cut

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pyflux_transfer.training.options import OptionFields

HEAD_RATE, DEEPER_RATE = 1e-3, 1e-4


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

    `weights` is "imagenet", a path to `.safetensors`, `.pth`, `.pt` or a bundle, or None for a
    random start from `seed`; a bundle brings its own. `engine` is "auto", "flux" or "torch".
    `precision` of the frozen trunk and of prediction is "fp32", "bf16", or "auto": bf16 where
    the processor computes it and a check agrees. Raises InputError for an unknown architecture,
    WeightsError or BundleError for a file that does not fit, EngineError where none can start.
    """
    if Path(name).suffix == ".safetensors":
        return _from_bundle(checkpoint.read(name), engine, device, precision)
    row = architecture(str(name))
    chosen, why = engines.choose(engine)
    plan = Plan(row, None, seed, precision, device)
    if weights is None:
        network = engines.build(chosen, plan)
    else:
        network = engines.build(chosen, replace(plan, seed=None))
        network.load_state(_weights(chosen, plan, weights))
    network.cut_at(resolve_cut(network.units, "head"))
    classes = tuple(f"imagenet {i}" for i in range(1000))
    return Classifier(network, plan, classes, row.preprocessing, why)


def _weights(engine: str, plan: Plan, given: str | Path) -> State:
    if given == "imagenet":
        return engines.pretrained(engine, plan.architecture.name)
    return weights.for_plan(weights.read(given), plan)


def _from_bundle(
    bundle: Bundle, engine: str, device: Literal["auto", "cpu", "cuda"], precision: Precision
) -> Classifier:
    chosen, why = engines.choose(engine)
    network = predict.restore(bundle, chosen, device, precision)
    plan = Plan(bundle.row, bundle.head, 0, precision, device)
    return Classifier(network, plan, bundle.classes, bundle.preprocessing, why, dict(bundle.info))


@dataclass
class Classifier:
    """A network with named classes, and what can be done with it."""

    network: Network
    plan: Plan
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    engine: str  # which engine was chosen, and why
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def units(self) -> Sequence[Unit]:
        """The steps of the network's chain, in order."""
        return self.network.units

    def __len__(self) -> int:
        """Count the units."""
        return len(self.network.units)

    def __getitem__(self, key: int | slice) -> Slice:
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
        names = tuple(str(name) for name in classes)
        if len(set(names)) != len(names):
            raise InputError(f"Class names must differ from each other, got {list(names)}.")
        head = Head(len(names), tuple(hidden), dropout, activation, keep)
        plan = replace(self.plan, head=head, seed=seed)
        old = [unit for unit in self.units if keep or unit.stage != "head"]
        fresh = [unit for unit in plan.units if unit not in old]
        kept = {name for unit in plan.units if unit in old for name in unit.tensors}
        state = {name: value for name, value in self.network.state().items() if name in kept}
        network = engines.build(self.network.engine, replace(plan, seed=None))
        network.load_state({**state, **start(fresh, seed)})
        network.cut_at(resolve_cut(network.units, "head"))
        return Classifier(network, plan, names, self.preprocessing, self.engine)

    def fit(
        self,
        data: str | Path | Splits,
        *,
        valid: str | Path | float | None = 0.2,
        cut: int | str = "head",
        epochs: int = 5,
        lr: float | None = None,
        run_dir: str | Path | None = None,
        resume: bool = False,
        cache: bool | Cache = True,
        watcher: Watcher | None = None,
        **options: Unpack[OptionFields],
    ) -> Run:
        """Train everything from `cut` on; what lies before it stays frozen.

        `data` is a folder with one folder a class, a CSV (`path,label[,split]`), or `Splits`.
        `valid` is a folder, a share (0–1) taken from the training images, or None; a source that
        brings its own validation images uses them. `lr` is the head's rate, by default 1e-3, or
        1e-4 when deeper stages train. With `run_dir` each epoch is kept there, and `resume` goes
        on with it. Other options are the fields of `Options`. The best epoch's weights stay.
        """
        index = resolve_cut(self.units, cut)
        rate = lr or (HEAD_RATE if self.units[index].stage == "head" else DEEPER_RATE)
        phases = (Phase(index, _at_least_one(epochs), rate),)
        return self._train(
            data, valid, phases, Options.of(options), run_dir, resume, cache, watcher
        )

    def fine_tune(
        self,
        data: str | Path | Splits,
        *,
        freeze_epochs: int = 3,
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

        The head alone trains for `freeze_epochs` at `lr`; `epochs` at `fine_lr` are shared among
        the deeper phases. The rest is as in `fit`.
        """
        phases = gradual(self.units, freeze_epochs, epochs, lr, fine_lr, depth)
        return self._train(
            data, valid, phases, Options.of(options), run_dir, resume, cache, watcher
        )

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
        if resume and run_dir is None:
            raise InputError("resume=True needs run_dir=, the folder of the run to go on with.")
        watcher = watcher or Silent()
        watcher.line(self.engine)
        training, validation = self._datasets(data, valid, options)
        job = Job(
            self.network, self.preprocessing, training, validation, phases, options,
            _cache(cache), Path(run_dir) if run_dir else None, resume,
        )  # fmt: skip
        run = train(job, watcher)
        self.info["training"] = {
            "images": len(training.samples),
            "options": options.to_json(),
            "phases": [asdict(phase) for phase in phases],
            "best": run.best.to_json(),
        }
        return run

    def _datasets(
        self, data: str | Path | Splits, valid: str | Path | float | None, options: Options
    ) -> tuple[Dataset, Dataset | None]:
        """Return training and validation images; both have this classifier's classes."""
        splits = data if isinstance(data, Splits) else read(data, self.classes, options)
        if splits.train.classes != self.classes:
            raise InputError(
                f"The data's classes {list(splits.train.classes)} are not the classifier's "
                f"{list(self.classes)}. Make a head for them: net.with_head(classes)."
            )
        if isinstance(valid, (str, Path)):
            return splits.train, read(valid, self.classes, options).train
        if splits.valid is not None or not valid:
            return splits.train, splits.valid
        return split(splits.train, valid, options.seed)

    def predict(
        self, images: Source | Sequence[Source], *, top: int = 3, batch_size: int = 16
    ) -> list[Prediction]:
        """Return the label and the `top` probabilities of each image.

        `images` is a path, a folder, a list of them, bytes, a PIL image, an array (H,W,3) or
        (N,H,W,3) uint8, or preprocessed (N,3,H,W) float32. Raises ImageError for an unreadable
        one; `predict.predict` goes on instead.
        """
        answers = []
        for answer in predict.predict(
            self.network, self.classes, self.preprocessing, images, top=top, batch_size=batch_size
        ):
            if isinstance(answer, Skipped):
                raise ImageError(answer.reason)
            answers.append(answer)
        return answers

    def evaluate(self, data: str | Path, *, batch_size: int = 16) -> Evaluation:
        """Return accuracy, balanced accuracy, per-class scores, confusion, log loss and ECE.

        `data` is as in `fit`; of several splits the test images are taken, else the validation
        images, else all.
        """
        options = Options(batch_size=batch_size)
        splits = read(data, self.classes, options)
        samples = (splits.test or splits.valid or splits.train).samples
        load_one = partial(_load, preprocessing=self.preprocessing)
        read_ahead = batches(load_one, samples, batch_size, workers=options.workers)
        answered = [(predict.probabilities(self.network, x), y) for x, y in read_ahead]
        answers, labels = (np.concatenate(parts) for parts in zip(*answered, strict=True))
        return evaluate(answers, labels, self.classes)

    def features(
        self,
        data: str | Path,
        *,
        cut: int | str = "head",
        cache: bool | Cache = True,
        watcher: Watcher | None = None,
    ) -> tuple[Array, list[str], list[str]]:
        """Return what the trunk before `cut` makes of the images (N, …), their labels and paths."""
        options, dataset = Options(), read(data, None, Options()).train
        self.network.cut_at(resolve_cut(self.units, cut))
        found = extract(
            self.network, self.preprocessing, [Item(sample) for sample in dataset.samples],
            partial(_load, preprocessing=self.preprocessing), _cache(cache),
            batch_size=options.batch_size, workers=options.workers,
            timer=Timer(), watcher=watcher or Silent(), title="features",
        )  # fmt: skip
        labels = [dataset.classes[sample.label] for sample in dataset.samples]
        paths = [str(sample.path) for sample in dataset.samples]
        return found.take(range(found.count)), labels, paths

    def save(self, path: str | Path) -> Path:
        """Write the bundle (one `.safetensors` file) atomically and return its path."""
        if Path(path).suffix != ".safetensors":
            raise InputError(f"A bundle's name must end in .safetensors, got '{path}'.")
        engine = self.network.engine
        info = {
            **self.info,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "engine": engine,
            "precision": self.network.precision,
            "versions": {
                "pyflux-transfer": __version__,
                "python": platform.python_version(),
                engine: metadata.version({"flux": "juliacall"}.get(engine, engine)),
            },
        }
        bundle = Bundle(
            self.plan.architecture.name, self.classes, self.plan.head, self.preprocessing,
            self.network.cut, self.network.state(), info,
        )  # fmt: skip
        return checkpoint.write(path, bundle)

    def summary(self) -> None:
        """Print a table of the units: layer, input and output shape, parameters, trainable."""
        from pyflux_transfer import report  # starts rich

        report.summary(self.network, self.preprocessing.crop)


def _load(item: Sample | Item, preprocessing: Preprocessing) -> Array:
    sample = item.sample if isinstance(item, Item) else item
    return load_image(sample.path, preprocessing)


def _cache(given: bool | Cache) -> Cache:
    """Return where features are kept: the user's cache folder for True, nowhere for False."""
    if isinstance(given, Cache):
        return given
    return Cache(store.cache_folder() / "features" if given else None)


def _at_least_one(epochs: int) -> int:
    if epochs < 1:
        raise InputError(f"epochs must be at least 1, got {epochs}.")
    return epochs


def read(source: str | Path, classes: Sequence[str] | None, options: Options) -> Splits:
    """Scan a dataset; images seen to be readable in an earlier run are not decoded again."""
    folder = store.cache_folder()
    known = store.readable(folder)
    splits = scan(
        source,
        classes=classes,
        known_good=known,
        workers=options.workers,
        max_pixels=options.max_pixels,
    )
    found = {
        sample.digest
        for part in (splits.train, splits.valid, splits.test)
        if part
        for sample in part.samples
    }
    store.remember_readable(folder, sorted(found - known))
    return splits
