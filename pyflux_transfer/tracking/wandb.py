"""Weights & Biases: a run in a project, online or offline (WANDB_MODE=offline)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyflux_transfer.tracking.tracker import Value, missing

PROJECT = "pyflux-transfer"


class WandB:
    """Logs to a run of its own or, without a project, to the one that is active.

    The project is `[ENTITY/]PROJECT`, WANDB_PROJECT's, or called pyflux-transfer.
    """

    def __init__(self, project: str = "") -> None:
        try:
            import wandb
        except ImportError:
            raise missing("Weights & Biases", "wandb") from None
        self._wandb = wandb
        self._project = project
        self._run: Any = None
        self._own = True

    def start(self, name: str) -> None:
        """Begin a run."""
        if not self._project and self._wandb.run is not None:
            self._own, self._run = False, self._wandb.run
        else:
            entity, _, project = self._project.rpartition("/")
            self._run = self._wandb.init(
                project=project or os.environ.get("WANDB_PROJECT") or PROJECT,
                entity=entity or None, name=name, job_type="train", reinit="create_new",
            )  # fmt: skip
        self._run.define_metric("epoch/*", step_metric="epoch")

    def parameters(self, values: Mapping[str, Value]) -> None:
        """Log the configuration."""
        self._run.config.update(dict(values), allow_val_change=True)

    def metrics(self, values: Mapping[str, float], epoch: int | None) -> None:
        """Log curves over the epochs; measures of the whole run go into its summary."""
        if epoch is None:
            self._run.summary.update(dict(values))
        else:
            named = {f"epoch/{name}": value for name, value in values.items()}
            self._run.log({"epoch": epoch, **named})

    def picture(self, name: str, png: bytes) -> None:
        """Log a picture."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.png"
            path.write_bytes(png)
            self._run.log({name: self._wandb.Image(str(path))})

    def text(self, name: str, text: str) -> None:
        """Keep a text among the run's files."""
        (Path(self._run.dir) / name).write_text(text, "utf-8")

    def file(self, path: Path) -> None:
        """Log a file as an artifact: a model."""
        artifact = self._wandb.Artifact(path.stem, type="model")
        artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def end(self, status: str) -> None:
        """End the run; one that was active before is left so."""
        if self._own:
            self._run.finish(exit_code=0 if status == "finished" else 1)
