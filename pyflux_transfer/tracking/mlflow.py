"""MLflow: a run in an experiment, on a server, in a database or a folder."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from pyflux_transfer.tracking.tracker import Value, missing

EXPERIMENT = "pyflux-transfer"
LONGEST = 6000  # characters of a parameter
STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


class MLflow:
    """Logs to a run of its own or, without a URI, to the one that is active.

    Without a URI, MLFLOW_TRACKING_URI says where. The experiment is MLFLOW_EXPERIMENT_NAME's, or
    called pyflux-transfer.
    """

    def __init__(self, uri: str = "") -> None:
        try:
            import mlflow
        except ImportError:
            raise missing("MLflow", "mlflow") from None
        self._mlflow = mlflow
        self._uri = uri
        self._own = True

    def start(self, name: str) -> None:
        """Begin a run."""
        active = None if self._uri else self._mlflow.active_run()
        self._client = self._mlflow.MlflowClient(tracking_uri=self._uri or None)
        if active:
            self._own, self.run_id = False, active.info.run_id
            return
        called = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        known = self._client.get_experiment_by_name(called)
        place = known.experiment_id if known else self._client.create_experiment(called)
        self.run_id = self._client.create_run(place, run_name=name).info.run_id

    def parameters(self, values: Mapping[str, Value]) -> None:
        """Log parameters."""
        entity = self._mlflow.entities.Param
        rows = [entity(name, str(value)[:LONGEST]) for name, value in values.items()]
        self._client.log_batch(self.run_id, params=rows)

    def metrics(self, values: Mapping[str, float], epoch: int | None) -> None:
        """Log metrics; those of the whole run have step 0."""
        now, entity = int(1000 * time.time()), self._mlflow.entities.Metric
        rows = [entity(name, value, now, epoch or 0) for name, value in values.items()]
        self._client.log_batch(self.run_id, metrics=rows)

    def picture(self, name: str, png: bytes) -> None:
        """Log a picture as an artifact."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.png"
            path.write_bytes(png)
            self.file(path)

    def text(self, name: str, text: str) -> None:
        """Log a text as an artifact."""
        self._client.log_text(self.run_id, text, name)

    def file(self, path: Path) -> None:
        """Log a file as an artifact."""
        self._client.log_artifact(self.run_id, str(path))

    def end(self, status: str) -> None:
        """End the run; one that was active before is left so."""
        if self._own:
            self._client.set_terminated(self.run_id, STATUS[status])
