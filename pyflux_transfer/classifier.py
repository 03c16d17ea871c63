"""The facade people use: load a network, give it a head, train, predict, evaluate, save."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pyflux_transfer import engines, explain, loading, predict, reporting
from pyflux_transfer.data.dataset import (
    CHECKED,
    MAX_SKIPPED,
    Sample,
    Skipped,
    Splits,
    read_sample,
)
from pyflux_transfer.data.decode import MAX_PIXELS
from pyflux_transfer.data.listing import Labelled
from pyflux_transfer.data.preprocess import load as load_image
from pyflux_transfer.engines.base import Precision, traced
from pyflux_transfer.errors import EngineError, ImageError, InputError
from pyflux_transfer.explain import Explanation
from pyflux_transfer.export import writing
from pyflux_transfer.export.writing import Export
from pyflux_transfer.fitting import Fitting, starts_unsolved
from pyflux_transfer.insight.belonging import kept
from pyflux_transfer.insight.metrics import Evaluation
from pyflux_transfer.judgement import judge
from pyflux_transfer.model import Model, refuse_headless
from pyflux_transfer.networks.head import Head, class_names
from pyflux_transfer.networks.layers import Layers
from pyflux_transfer.networks.listing import listing
from pyflux_transfer.networks.numbers import number, plain
from pyflux_transfer.networks.outline import Row, outline
from pyflux_transfer.networks.preprocessing import Fit, Preprocessing
from pyflux_transfer.networks.slicing import Slice, chain_slice, run
from pyflux_transfer.networks.start import start
from pyflux_transfer.networks.tensors import Array
from pyflux_transfer.networks.units import Unit, resolve_cut
from pyflux_transfer.predict import Photos, Prediction
from pyflux_transfer.tracking.tracker import Log
from pyflux_transfer.training import recipe
from pyflux_transfer.training.callbacks import Silent, Timer, Watcher
from pyflux_transfer.training.features import Cache, Item, extract
from pyflux_transfer.training.head import linear
from pyflux_transfer.training.options import Options
from pyflux_transfer.training.plan import Phase, gradual
from pyflux_transfer.training.train import Run

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pyflux_transfer.engines.flux.handle import Handle
    from pyflux_transfer.training.options import OptionFields

HEAD_RATE, DEEPER_RATE = 1e-3, 1e-4
FREEZE_EPOCHS = 3
EPOCHS, SHARE = 5, 0.2  # of steps, and of the photos that are held back to judge them


@dataclass
class Classifier(Model):
    """A network with named classes, and what can be done with it."""

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

    def __call__(self, images: Array) -> Array:
        """Return the logits (N,classes) of preprocessed images (N,3,H,W), in evaluation mode."""
        refuse_headless(self)
        return run(self.network, images, 0, len(self.units))

    def __repr__(self) -> str:
        """Show the network layer by layer, with parameter counts."""
        parameters = sum(unit.parameters for unit in self.units)
        head = (
            f"{self.plan.architecture.name}, {len(self.classes)} classes, "
            f"{self.network.engine} engine: {parameters:,} parameters"
        )
        return "\n".join([head, *listing(self.units, 0, self.network.cut)])

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"

    @property
    def julia(self) -> Handle:
        """The network's Flux `Chain`: `net.julia.run("chain -> length(chain)")`; see docs/julia.md.

        Raises EngineError where another engine than flux computes.
        """
        handle: Handle | None = getattr(self.network, "julia", None)
        if handle is None:
            raise EngineError(
                f"This network runs in the {self.network.engine} engine, which has no chain in "
                "Julia. Load it with engine='flux'; where Julia is missing, first: "
                "pyflux-transfer setup"
            )
        return handle

    @property
    def layers(self) -> Layers:
        """The layers by torchvision's names: `net.layers["layer4.0.conv1"].shape`."""
        return Layers(self.network)

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
            refuse_headless(self)
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
        data: Labelled | Splits,
        *,
        valid: Labelled | float | None = "auto",
        cut: int | str | None = None,
        epochs: int | None = None,
        lr: float | None = None,
        quality: str | None = None,
        minutes: float | None = None,
        run_dir: str | Path | None = None,
        resume: bool = False,
        cache: bool | Cache = True,
        watcher: Watcher | None = None,
        log: Log = None,
        **options: Unpack[OptionFields],
    ) -> Run:
        """Train on a folder with one folder a class, a table of photos, or `Splits`.

        A table is a CSV or Parquet file (`path,label[,split][,group]`), a frame of pandas or
        polars, or a dataset of Hugging Face; `Table` names its columns where they are called
        otherwise.

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

        `valid` is a source as `data` is, a share (0–1) taken from the training images, which steps
        need, or None; "auto" is 0.2 for steps, nothing for the recipe. A source that brings its own
        validation images uses them. `log` names trackers that are told of the run:
        "tensorboard:DIR", "mlflow[:URI]", "wandb[:PROJECT]", a `Tracker`, or several. Other options
        are the fields of `Options`.
        """
        chosen = Options.of(options, beside=Classifier.fit.__kwdefaults__)
        valid = number(valid)
        share = isinstance(valid, (int, float)) and bool(valid)
        auto = isinstance(valid, str) and valid == "auto"
        named = share or any(x is not None for x in (cut, epochs, lr))
        steps = named or bool(set(options) - recipe.HEEDED)
        effort = recipe.Effort.of(quality or recipe.QUALITY, minutes)
        if steps and (quality, minutes) != (None, None):
            raise InputError(
                "quality and minutes belong to the recipe, which chooses all steps itself: leave "
                "them out, or the options of steps."
            )
        fitting = Fitting(
            self, data, valid, chosen, run_dir, resume, Cache.of(cache), watcher or Silent(), log
        )
        if not steps:
            if linear(self.network):
                return replace(fitting, valid=None if auto else valid).by_recipe(effort)
            fitting.watcher.line("the head is more than one Dense layer, so it is trained by steps")
        index = resolve_cut(self.units, "head" if cut is None else cut)
        usual = HEAD_RATE if self.units[index].stage == "head" else DEEPER_RATE
        length = EPOCHS if epochs is None else epochs
        phases = (Phase(index, length, usual if lr is None else lr),)
        return replace(fitting, valid=SHARE if auto else valid).by_steps(phases)

    def fine_tune(
        self,
        data: Labelled | Splits,
        *,
        freeze_epochs: int | None = None,
        epochs: int = 5,
        depth: int = 1,
        lr: float = HEAD_RATE,
        fine_lr: float = DEEPER_RATE,
        valid: Labelled | float | None = 0.2,
        run_dir: str | Path | None = None,
        resume: bool = False,
        cache: bool | Cache = True,
        watcher: Watcher | None = None,
        log: Log = None,
        **options: Unpack[OptionFields],
    ) -> Run:
        """Train the head first, then gradually deeper: the last stage, … the last `depth` stages.

        The head alone trains for `freeze_epochs` at `lr`; by default it is solved to its optimum
        where it has not been trained and is one Dense layer, else it trains for 3. `epochs` at
        `fine_lr` are shared among the deeper phases. The rest is as in `fit`.
        """
        if freeze_epochs is None:
            freeze_epochs = 0 if starts_unsolved(self) else FREEZE_EPOCHS
        phases = gradual(self.units, freeze_epochs, epochs, lr, fine_lr, depth)
        chosen = Options.of(options, beside=Classifier.fine_tune.__kwdefaults__)
        return Fitting(
            self, data, valid, chosen, run_dir, resume, Cache.of(cache), watcher or Silent(), log
        ).by_steps(phases)

    def predict(
        self,
        images: Photos,
        *,
        top: int = 3,
        keep: float | None = None,
        batch_size: int = 16,
        max_pixels: int = MAX_PIXELS,
    ) -> list[Prediction]:
        """Return the label and the `top` probabilities of each image, and whether it is `sure`.

        An image that is too unlike those that were learnt is not: `keep` is the share of images of
        the known classes that shall be sure, by default 0.95.

        `images` is a path, a folder, a pattern (`photos/*.jpg`), bytes, an open file, a PIL image,
        an array (H,W,3) or (N,H,W,3) uint8, an iterable of these, a table as in `fit`, of which
        labels are not needed, or preprocessed (N,3,H,W) float32. Raises ImageError for an
        unreadable one; `predict.predict` goes on instead.
        """
        refuse_headless(self)
        answers = []
        for answer in predict.predict(
            self.network, self.classes, self.preprocessing, images, top=top, batch_size=batch_size,
            temperature=self.temperature, belonging=kept(self.belonging, keep),
            max_pixels=max_pixels,
        ):  # fmt: skip
            if isinstance(answer, Skipped):
                raise ImageError(answer.reason)
            answers.append(answer)
        return answers

    def explain(
        self,
        images: Photos,
        *,
        label: str | None = None,
        top: int = 3,
        batch_size: int = 16,
        max_pixels: int = MAX_PIXELS,
    ) -> list[Explanation]:
        """Return what in each image speaks for its answer, or for the class `label`.

        Behind mean pooling and one Dense layer that is the class activation map (Zhou et al. 2016),
        else Grad-CAM at the last feature map (Selvaraju et al. 2017); of vision transformers at
        the patches' tokens before the last block. `images` are as in `predict`, but not
        preprocessed ones. Raises ImageError for an unreadable one.
        """
        refuse_headless(self)
        found = []
        for answer in explain.explain(
            self.network, self.classes, self.preprocessing, images, label=label, top=top,
            batch_size=batch_size, temperature=self.temperature, belonging=self.belonging,
            max_pixels=max_pixels,
        ):  # fmt: skip
            if isinstance(answer, Skipped):
                raise ImageError(answer.reason)
            found.append(answer)
        return found

    def evaluate(
        self,
        data: Labelled | Splits,
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
        options = Options(batch_size=batch_size, max_pixels=max_pixels, max_skipped=max_skipped)
        return judge(self, data, options, watcher or Silent()).evaluation()

    def report(
        self,
        data: Labelled | Splits,
        out: str | Path = "report.html",
        *,
        batch_size: int = 16,
        max_pixels: int = MAX_PIXELS,
        max_skipped: float = MAX_SKIPPED,
        watcher: Watcher | None = None,
    ) -> Evaluation:
        """Write one page about the answers to labelled photos, and return the scores.

        `data` is as in `evaluate`. The page needs nothing else: scores, confusions with their
        photos, the worst answers with heat maps. Raises InputError where Jinja2 is missing.
        """
        return reporting.report(
            self, data, out, batch_size=batch_size, max_pixels=max_pixels,
            max_skipped=max_skipped, watcher=watcher,
        )  # fmt: skip

    def features(
        self,
        data: Labelled | Splits,
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
        splits = options.reader(watcher).read(data, training=False)
        for line in splits.left_out():
            watcher.line(line)
        samples = [sample for part in splits.parts for sample in part.samples]
        cut_before = self.network.cut
        self.network.cut_at(resolve_cut(self.units, cut))
        try:
            found = extract(
                self.network, self.preprocessing, [Item(sample) for sample in samples],
                partial(_load, preprocessing=self.preprocessing), Cache.of(cache),
                batch_size=options.batch_size, workers=options.workers,
                timer=Timer(), watcher=watcher, title="features",
            )  # fmt: skip
        finally:
            self.network.cut_at(cut_before)
        labels = [splits.train.classes[sample.label] for sample in samples]
        return found.take(range(found.count)), labels, [str(sample.path) for sample in samples]

    def save(self, path: str | Path) -> Path:
        """Write the bundle (one `.safetensors` file) atomically and return its path."""
        return loading.save(self, path)

    def export(
        self,
        path: str | Path,
        *,
        input: Literal["image", "tensor"] = "image",
        compare: Photos | None = None,
        int8: Photos | None = None,
        max_loss: float = writing.MAX_LOSS,
        max_pixels: int = MAX_PIXELS,
    ) -> Export:
        """Write an ONNX file that answers as this model does, and return how they compare.

        It takes one photo (height, width, 3) uint8, of which it makes what the network wants, or
        with `input="tensor"` prepared batches (N, 3, crop, crop) float32. ONNX Runtime runs it on
        the photos of `compare`, else on made pictures. `int8` names photos (as in `predict`) on
        which it is quantised to 8 bits. Raises InputError where the extra `export` is missing,
        ExportError where its answers differ, or 8 bits lose more than `max_loss`; nothing is
        written then.
        """
        own = self.network if self.network.precision == "fp32" else None
        return writing.export(
            loading.bundled(self), path, input=input, compare=compare, int8=int8,
            max_loss=max_loss, engine=self.network.engine, network=own, max_pixels=max_pixels,
        )  # fmt: skip

    def summary(
        self,
        depth: int = 2,
        *,
        columns: Sequence[str] = ("kind", "input", "output", "parameters", "trainable"),
        batch_size: int | None = None,
    ) -> None:
        """Print a table of the network: 0 the whole, 1 its stages, 2 their units, 3 the layers.

        `columns` are of kind, input, output, weight, parameters, share, statistics, mult-adds and
        trainable. Shapes are those of one image, or of a batch of `batch_size`. Raises InputError
        for another depth or column.
        """
        from pyflux_transfer.insight.summary import show_summary  # starts rich

        rows = self.outline(depth, 1 if batch_size is None else batch_size)
        show_summary(rows, self.network.cut, columns, batch=batch_size is not None)

    def outline(self, depth: int = 3, batch_size: int = 1) -> list[Row]:
        """Return the rows of `summary` as data, for a batch of `batch_size` images."""
        batch_size = plain(batch_size)
        if not isinstance(batch_size, int) or batch_size < 1:
            raise InputError(
                f"batch_size must be a whole number of at least 1, got {batch_size!r}."
            )
        side = self.preprocessing.crop
        name, shape = self.plan.architecture.name, (batch_size, 3, side, side)
        shapes = traced(self.network, shape)
        return outline(name, self.units, self.network.cut, shape, depth, shapes)


def load(
    name: str | Path,
    *,
    weights: str | Path | None = "imagenet",
    engine: str = "auto",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Precision = "auto",
    seed: int = 0,
    size: int | None = None,
    fit: Fit | None = None,
) -> Classifier:
    """Load a network by its architecture's name, or a trained bundle by its path.

    `weights` is "imagenet" (the first tag that `pyflux-transfer models` lists), a tag, a path to
    `.safetensors`, `.pth`, `.pt`, or None (also "none", as on the command line) for a random start
    from `seed`; a bundle, given as either, brings its own, its classes and head. A file without the
    head of the 1000 ImageNet classes, or with another, gives what comes before it. `engine` is
    "auto", "flux", "torch", or "onnx", which does not train. `precision` of prediction and training
    is "fp32", "bf16", or "auto": bf16 where it is measured to be faster and a check agrees.

    Images are seen as the weights' publisher did, or a bundle's photos were: `size` is another side
    in pixels, `fit` is "crop", "pad" or "stretch" (see `Preprocessing`). A bundle should be trained
    again then.

    "julia:Metalhead.SEResNet(50)" names a network of one's own: a call in Julia, of Metalhead or of
    a module that the environment variable PYFLUX_JULIA_MODULES names, which returns a Flux `Chain`
    that ends with its head; docs/julia.md says more. The flux engine alone runs it, and it begins
    as the constructor leaves it.

    Raises InputError for an unknown architecture or tag and a size that the network cannot take,
    WeightsError or BundleError for a file that does not fit, EngineError where none can start.
    """
    model = loading.load(name, weights, engine, device, precision, seed, size, fit)
    return Classifier(**vars(model))


def _load(item: Sample | Item, preprocessing: Preprocessing) -> Array:
    sample = item.sample if isinstance(item, Item) else item
    return read_sample(sample, partial(load_image, preprocessing=preprocessing, max_pixels=CHECKED))
