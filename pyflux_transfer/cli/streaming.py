"""`predict --out`: answers go into a file as they come, and the same command goes on behind them.

A row says of which photo it is (its path as given, the size and time of its file) and by which
bundle (the beginning of the digest of its file). What was answered so is not asked again; a photo
that has changed, or could not be read, is. Rows of photos that are not given are left alone.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyflux_transfer.errors import InputError, readable, shortened
from pyflux_transfer.storage import file_digest, replacing

if TYPE_CHECKING:
    from pyflux_transfer.data.dataset import Skipped
    from pyflux_transfer.predict import Prediction

Row = Mapping[str, Any]
State = tuple[int, int]  # size in bytes and time of the last change in nanoseconds
COLUMNS = ("name", "label", "probability", "belonging", "sure")
_MARKS = ("bytes", "modified_ns", "bundle", "error")
_GONE = (0, 0)
_DIGITS = 16  # of a bundle's digest


def cells(answer: Prediction) -> tuple[Any, ...]:
    """Return what `COLUMNS` name of an answer."""
    sure = None if answer.sure is None else "yes" if answer.sure else "no"
    return answer.name, answer.label, answer.probability, answer.belonging, sure


@dataclass(frozen=True)
class Format:
    """How rows become lines, and lines rows again; a line that is none becomes None."""

    begin: str
    shown: Callable[[Prediction], Row]
    written: Callable[[Row], str]
    read: Callable[[str], Row | None]


def _csv_line(cells: Iterable[Any]) -> str:
    text = io.StringIO()
    row = ["" if cell is None else readable(cell) for cell in cells]
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue()


def _csv_row(line: str) -> Row | None:
    words = next(csv.reader([line]), [])
    names = (*COLUMNS, *_MARKS)
    if len(words) != len(names):
        return None
    row: dict[str, Any] = dict(zip(names, words, strict=True))
    try:
        return {**row, "bytes": int(row["bytes"]), "modified_ns": int(row["modified_ns"])}
    except ValueError:
        return None


def _json_row(line: str) -> Row | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and {"name", *_MARKS} <= set(row) else None


FORMATS = {
    ".csv": Format(
        _csv_line((*COLUMNS, *_MARKS)),
        lambda answer: dict(zip(COLUMNS, cells(answer), strict=True)),
        lambda row: _csv_line(row.get(name, "") for name in (*COLUMNS, *_MARKS)),
        _csv_row,
    ),
    ".jsonl": Format(
        "", lambda answer: answer.to_json(), lambda row: json.dumps(row) + "\n", _json_row
    ),
}


def digest(bundle: Path) -> str:
    """Return the beginning of the digest of a bundle's file."""
    return file_digest(bundle)[:_DIGITS]


def states(paths: Iterable[Path]) -> dict[str, State]:
    """Return size and time of each file by its name; zeros where it has gone."""
    found: dict[str, State] = {}
    for path in paths:
        try:
            row = path.stat()
            found[readable(path)] = (row.st_size, row.st_mtime_ns)
        except OSError:
            found[readable(path)] = _GONE
    return found


def form(path: Path) -> Format:
    """Return the form of a file by its name's ending. Raises InputError for another one."""
    if found := FORMATS.get(path.suffix.lower()):
        return found
    raise InputError(f"--out must end in {' or '.join(FORMATS)}, got '{path}'.")


class Answers:
    """The file of answers by one bundle: what it holds, and more of it, a row at a time.

    `top` is how many labels an answer has, `keep` the share of known photos that shall be sure.
    """

    def __init__(self, path: Path, bundle: Path, top: int, keep: float | None = None) -> None:
        self.form, self.path, self.top = form(path), path, top
        self.bundle = digest(bundle) + ("" if keep is None else f", keep {keep:g}")
        self.states: dict[str, State] = {}

    def pending(self, photos: Iterable[Path]) -> list[Path]:
        """Return the photos that have no answer yet, each once; rows that hold no more go.

        Raises InputError where the file holds anything but answers of this bundle.
        """
        given = {readable(path): path for path in photos}
        self.states = states(given.values())
        kept: set[str] = set()
        lines = 0
        for lines, row in enumerate(self._rows(), start=1):  # noqa: B007
            if row is not None and self._holds(row):
                kept.add(row["name"])
        if len(kept) < lines or not self.path.exists() or not self.path.stat().st_size:
            self._rewrite()
        return [path for name, path in given.items() if name not in kept]

    def keeping(self, answers: Iterable[Prediction | Skipped]) -> Iterator[Prediction | Skipped]:
        """Pass answers on, each once it stands in the file."""
        with self.path.open("a", encoding="utf-8", newline="") as file:
            for answer in answers:
                file.write(self.form.written(self._row(answer)))
                file.flush()  # what stands here stays, however the process ends
                yield answer

    def _row(self, answer: Prediction | Skipped) -> Row:
        from pyflux_transfer.data.dataset import Skipped

        said: Row
        if isinstance(answer, Skipped):
            error, said = answer.reason, {"name": readable(answer.path)}
        else:
            error, said = "", self.form.shown(answer)
        marks = (*self.states.get(said["name"], _GONE), self.bundle, error)
        return {**said, **dict(zip(_MARKS, marks, strict=True))}

    def _holds(self, row: Row) -> bool:
        """Tell whether a row says what the bundle would say now."""
        if row["bundle"] != self.bundle:
            raise InputError(
                f"'{shortened(self.path)}' holds answers of another bundle ({row['bundle']}, this "
                f"one is {self.bundle}). Give another --out, or delete it."
            )
        state = (row["bytes"], row["modified_ns"])
        same = self.states.get(row["name"], state) == state
        return same and not row["error"] and len(row.get("top", range(self.top))) == self.top

    def _rows(self) -> Iterator[Row | None]:
        """Yield the rows in the file, None for a last line that was not written to its end."""
        if not self.path.exists():
            return
        with self.path.open(encoding="utf-8", newline="", errors="replace") as file:
            begin = file.readline() if self.form.begin else ""
            for line in file:
                row = self.form.read(line) if line.endswith("\n") else None
                if begin != self.form.begin or (row is None and line.endswith("\n")):
                    raise self._foreign()
                yield row
        if begin not in ("", self.form.begin):
            raise self._foreign()

    def _foreign(self) -> InputError:
        return InputError(
            f"'{shortened(self.path)}' holds something other than answers. Give another --out, or "
            "delete it."
        )

    def _rewrite(self) -> None:
        """Write the file anew with the rows that hold, the last one of a photo."""
        rows = {row["name"]: row for row in self._rows() if row is not None and self._holds(row)}
        with replacing(self.path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
            file.write(self.form.begin)
            file.writelines(self.form.written(row) for row in rows.values())
