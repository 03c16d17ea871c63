"""TensorBoard: a folder of events a run, beside which the bundle lies."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyflux_transfer.tracking.tracker import Value, missing

DEFAULT = "runs"


class TensorBoard:
    """Writes events as `tensorboard --logdir DIR` reads them, without TensorFlow or PyTorch."""

    def __init__(self, folder: str = "") -> None:
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2
            from tensorboard.plugins.hparams import metadata, plugin_data_pb2
            from tensorboard.plugins.text.metadata import create_summary_metadata
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            raise missing("TensorBoard", "tensorboard") from None
        self._root = Path(folder or DEFAULT)
        self._event, self._summary, self._tensor = event_pb2.Event, summary_pb2.Summary, tensor_pb2
        self._hparams, self._hparams_metadata = plugin_data_pb2, metadata
        self._text_metadata = create_summary_metadata
        self._open = EventFileWriter
        self._writer: Any = None

    def start(self, name: str) -> None:
        """Make a new folder for the run in DIR."""
        self.folder, number = self._root / name, 1
        while self.folder.exists():
            number += 1
            self.folder = self._root / f"{name}-{number}"
        self.folder.mkdir(parents=True)
        self._writer = self._open(str(self.folder))

    def parameters(self, values: Mapping[str, Value]) -> None:
        """Write them for the tab of hyper-parameters, and as a table."""
        info = self._hparams.SessionStartInfo()
        for name, value in values.items():
            kind = "bool" if isinstance(value, bool) else "string" if isinstance(value, str) else ""
            setattr(info.hparams[name], f"{kind or 'number'}_value", value)
        self._hparams_event("session_start_info", info)
        rows = "".join(f"| {name} | {value} |\n" for name, value in values.items())
        self.text("parameters", f"| | |\n|---|---|\n{rows}")

    def metrics(self, values: Mapping[str, float], epoch: int | None) -> None:
        """Write curves over the epochs, or single values under `final/`."""
        rows = [
            self._summary.Value(tag=f"epoch/{name}" if epoch else f"final/{name}", simple_value=v)
            for name, v in values.items()
        ]
        self._add(self._summary(value=rows), epoch or 0)

    def picture(self, name: str, png: bytes) -> None:
        """Write an image."""
        width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))  # PNG's header
        image = self._summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=png
        )
        self._add(self._summary(value=[self._summary.Value(tag=name, image=image)]), 0)

    def text(self, name: str, text: str) -> None:
        """Write a text."""
        tensor = self._tensor.TensorProto(dtype="DT_STRING", string_val=[text.encode()])
        about = self._text_metadata(name, "")
        row = self._summary.Value(tag=name, metadata=about, tensor=tensor)
        self._add(self._summary(value=[row]), 0)

    def file(self, path: Path) -> None:
        """Copy a file into the run's folder."""
        shutil.copy2(path, self.folder / path.name)

    def end(self, status: str) -> None:
        """Say how the run ended, and close."""
        said = {"finished": "STATUS_SUCCESS", "failed": "STATUS_FAILURE"}.get(
            status, "STATUS_UNKNOWN"
        )
        info = self._hparams.SessionEndInfo(end_time_secs=time.time())
        info.status = (
            self._hparams.DESCRIPTOR.pool.FindEnumTypeByName("tensorboard.hparams.Status")
            .values_by_name[said]
            .number
        )
        self._hparams_event("session_end_info", info)
        self._writer.close()

    def _hparams_event(self, kind: str, info: Any) -> None:
        content = self._hparams.HParamsPluginData(**{kind: info})
        about = self._hparams_metadata.create_summary_metadata(content)
        tag = f"_hparams_/{kind}"
        self._add(self._summary(value=[self._summary.Value(tag=tag, metadata=about)]), None)

    def _add(self, summary: Any, step: int | None) -> None:
        self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=summary))
        self._writer.flush()
