"""The folder that a job writes: parts that are whole or not there, and what the job was.

A part is called after the run that wrote it and after what it holds, so a share that is done twice
(its worker was killed between writing and telling) is the same file. Shards write into one folder
or into several, whose files can be put together.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyflux_transfer.cluster.optional import needed
from pyflux_transfer.cluster.photos import is_address
from pyflux_transfer.cluster.records import FORMS, Record, read
from pyflux_transfer.errors import InputError, StorageError, lookup, shortened
from pyflux_transfer.storage import check_writable, replacing

JOB = "job.json"
_PART = re.compile(r"part-(\d{4})-[0-9a-f]{16}\.(\w+)")


@dataclass(frozen=True)
class Folder:
    """Files by name, on a disk or behind an address; what is written is there whole."""

    place: str

    def names(self) -> list[str]:
        """List the files, sorted; none where the folder is not there."""
        if is_address(self.place):
            fs, root = self._remote()
            fs.invalidate_cache()
            found = fs.ls(root, detail=False) if fs.exists(root) else []
            return sorted(str(name).rstrip("/").rpartition("/")[2] for name in found)
        folder = Path(self.place)
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def read(self, name: str) -> bytes:
        """Return a file's content."""
        if is_address(self.place):
            fs, root = self._remote()
            return bytes(fs.cat_file(f"{root}/{name}"))
        return (Path(self.place) / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """Write a file, in the place of an old one. Raises StorageError."""
        if not is_address(self.place):
            with replacing(Path(self.place) / name) as temporary:
                temporary.write_bytes(data)
            return
        try:
            fs, root = self._remote()
            fs.makedirs(root, exist_ok=True)
            fs.pipe_file(f"{root}/{name}", data)
        except OSError as error:
            raise StorageError(f"Cannot write {self.place}/{name}: {error}.") from error

    def remove(self, name: str) -> None:
        """Remove a file."""
        if is_address(self.place):
            fs, root = self._remote()
            fs.rm_file(f"{root}/{name}")
        else:
            (Path(self.place) / name).unlink()

    def _remote(self) -> tuple[Any, str]:
        fs, root = needed("fsspec", "Writing to an address").core.url_to_fs(self.place)
        return fs, str(root).rstrip("/")


@dataclass(frozen=True)
class Parts:
    """Where a run of a job puts its records: the folder, the form, the run's number, the job."""

    folder: Folder
    form: str
    run: int
    meta: Mapping[str, Any]

    @classmethod
    def of(cls, place: str, form: str, meta: Mapping[str, Any]) -> Parts:
        """Begin a run in a folder, or go on with its job.

        Raises InputError where the folder holds another job's, StorageError where it cannot be
        written.
        """
        lookup(FORMS, form, "format")
        if form == "parquet":
            needed("pyarrow.parquet", "Parquet", ", or give --format jsonl")
        if form == "csv" and len(meta["shape"]) != 1:
            raise InputError(
                f"Features of shape {meta['shape']} are no CSV. Take --format parquet."
            )
        folder = Folder(place)
        if not is_address(place):
            check_writable(Path(place) / JOB)
        names = folder.names()
        if JOB in names:
            _refuse_another(place, json.loads(folder.read(JOB)), json.loads(json.dumps(meta)))
        else:
            folder.write(JOB, json.dumps(meta, indent=2).encode())
        return cls(folder, form, 1 + max((run for run, _ in _runs(names)), default=0), meta)

    def write(self, records: Sequence[Record]) -> str:
        """Write a part and return its name."""
        keys = "\n".join(f"{record.digest} {record.path}" for record in records)
        digest = hashlib.sha256(keys.encode(errors="surrogateescape")).hexdigest()[:16]
        name = f"part-{self.run:04}-{digest}.{self.form}"
        self.folder.write(name, FORMS[self.form].encode(records, self.meta))
        return name


def _refuse_another(place: str, there: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    differing = [name for name in {**there, **wanted} if there.get(name) != wanted.get(name)]
    if differing:
        raise InputError(
            f"'{shortened(place)}' holds what another job wrote (it differs in "
            f"{', '.join(differing)}). Give a new folder."
        )


def _runs(names: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield the run and the name of each part."""
    for name in names:
        if found := _PART.fullmatch(name):
            yield int(found[1]), name


def job_of(place: str) -> dict[str, Any]:
    """Return what wrote a folder. Raises InputError where it is no job's."""
    folder = Folder(place)
    if JOB not in folder.names():
        raise InputError(f"'{shortened(place)}' is no folder that --out has written.")
    found: dict[str, Any] = json.loads(folder.read(JOB))
    return found


def parts_in(place: str) -> list[str]:
    """Return the names of the parts of a folder."""
    return [name for _, name in _runs(Folder(place).names())]


def parts_of(place: str) -> Iterator[list[Record]]:
    """Yield the records of each part, the latest run's first."""
    folder = Folder(place)
    for _, name in sorted(_runs(folder.names()), reverse=True):
        yield read(name, folder.read(name))


def digests(place: str) -> dict[str, str]:
    """Return the digest of each photo that is kept, by its path: the latest run's."""
    found: dict[str, str] = {}
    for records in parts_of(place):
        for record in records:
            found.setdefault(record.path, record.digest)
    return found


def tidy(place: str) -> int:
    """Remove records that a later run has replaced; return how many there were."""
    folder, seen, removed = Folder(place), set[str](), 0
    for run, name in sorted(_runs(folder.names()), reverse=True):
        records = read(name, folder.read(name))
        kept = [r for r in records if r.path not in seen]
        seen.update(record.path for record in records)
        if len(kept) == len(records):
            continue
        removed += len(records) - len(kept)
        if kept:
            form = name.rpartition(".")[2]
            Parts(folder, form, run, job_of(place)).write(kept)
        folder.remove(name)
    return removed
