"""Walking a folder of photos: the files to read, what is passed over, and what is in the way."""

from __future__ import annotations

import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

# What systems, cameras and other tools leave beside photos. Names that begin with a dot are passed
# over without a word; these are counted.
_LITTER = {
    "__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found",
    "@__thumb", "@recycle", "@sharebin", "#snapshot",
    "__pycache__", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r",
}  # fmt: skip
# Endings of files that tell of a photo, or that are no still picture.
_BESIDE = {
    ".aae", ".bak", ".cfg", ".csv", ".db", ".doc", ".docx", ".exif", ".htm", ".html", ".ini",
    ".ipynb", ".json", ".jsonl", ".lnk", ".log", ".lrcat", ".mat", ".md", ".nfo", ".npy", ".npz",
    ".ods", ".odt", ".on1", ".parquet", ".pdf", ".pickle", ".pkl", ".pp3", ".py", ".rst", ".rtf",
    ".sh", ".thm", ".toml", ".tsv", ".txt", ".url", ".xlsx", ".xml", ".xmp", ".yaml", ".yml",
    ".3gp", ".aac", ".avi", ".flac", ".m4a", ".m4v", ".mkv", ".mov", ".mp3", ".mp4", ".mpg",
    ".mts", ".ogg", ".wav", ".webm", ".wmv",
}  # fmt: skip
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


@dataclass(frozen=True)
class Skipped:
    """One file or folder that cannot be used, and why."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"skipped {self.path}: {self.reason}"


@dataclass
class Walk:
    """What was met: files, what cannot be read, and how many of each kind were passed over."""

    files: list[Path] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    passed: Counter[str] = field(default_factory=Counter)


def walk(folder: Path) -> Walk:
    """Return what is in a folder and the folders in it, sorted; nothing is opened.

    Links to folders are followed, each folder is read once, and none that holds `folder` itself:
    so a link that leads back ends there.
    """
    found = Walk()
    start = os.path.realpath(folder)
    read = {start}
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        for entry in _listed(place, found):
            name = entry.name
            if name.startswith("."):
                continue
            if is_litter(name):
                found.passed[name.strip()] += 1
                continue
            kind = _kind(Path(entry.path), entry, found)
            if kind == stat.S_IFDIR:
                real = os.path.realpath(entry.path)
                if real in read or _within(start, real):
                    found.passed["links to folders that are read already"] += 1
                else:
                    read.add(real)
                    waiting.append(Path(entry.path))
            elif kind == stat.S_IFREG:
                ending = Path(name).suffix.lower()
                if ending in _BESIDE:
                    found.passed[ending] += 1
                else:
                    found.files.append(Path(entry.path))
    found.files.sort()
    found.skipped.sort(key=lambda item: item.path)
    return found


def is_litter(name: str) -> bool:
    """Tell whether a file or folder is what systems leave behind."""
    return name.startswith(".") or name.casefold() in _LITTER


def is_beside(name: str) -> bool:
    """Tell whether a file's ending says that it is no photo."""
    return is_litter(name) or Path(name).suffix.lower() in _BESIDE


def irregular(mode: int) -> str:
    """Return why something that is no ordinary file is not read, by its mode; "" for a file."""
    kind = stat.S_IFMT(mode)
    return "" if kind == stat.S_IFREG else f"it is {_KINDS.get(kind, 'something')}, not a file"


def cause(error: OSError | ValueError) -> str:
    """Return what the system says about a path it cannot use."""
    return getattr(error, "strerror", None) or str(error)


def _listed(place: Path, found: Walk) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(place) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        found.skipped.append(Skipped(place, cause(error)))
        return []


def _kind(path: Path, entry: os.DirEntry[str], found: Walk) -> int:
    """Return the kind of what a name leads to; 0, and a reason, for what cannot be read."""
    try:
        if entry.is_file():  # known from the listing, without asking again
            return stat.S_IFREG
        if entry.is_dir():
            return stat.S_IFDIR
        reason = irregular(path.stat().st_mode)
    except OSError as error:
        reason = cause(error)
    found.skipped.append(Skipped(path, reason))
    return 0


def _within(path: str, folder: str) -> bool:
    try:
        return os.path.commonpath([path, folder]) == folder
    except ValueError:  # on another drive
        return False
