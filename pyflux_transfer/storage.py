"""Where this program keeps things between runs."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import platformdirs

from pyflux_transfer.errors import InputError, StorageError, shortened

_ABANDONED_S = 86_400.0  # a temporary file of another machine that nobody has touched for so long


def cache_folder() -> Path:
    """Return the user's cache folder; the environment variable PYFLUX_CACHE overrides it."""
    given = os.environ.get("PYFLUX_CACHE")
    return Path(given) if given else platformdirs.user_cache_path("pyflux-transfer")


def torch_hub_folder() -> Path:
    """Return where PyTorch keeps what it downloads; see torch.hub.get_dir."""
    usual = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch")
    return Path(os.environ.get("TORCH_HOME", usual)).expanduser() / "hub"


def features_folder() -> Path:
    """Return where features are kept between runs, in the user's cache folder."""
    return cache_folder() / "features"


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal; it need not fit into memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give an empty file beside `path` to write into; at the end it takes the place of `path`.

    It is flushed to the disk first, so that there is the old file or the new one, whole. What
    writers that were killed have left beside is removed. Raises StorageError where the system
    refuses, and leaves everything as it was.
    """
    target = Path(path)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target)
        handle, name = tempfile.mkstemp(prefix=_prefix(target, os.getpid()), dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except OSError as error:
        raise StorageError(
            f"Cannot write {shortened(target)}: {error.strerror or error}. What was there before "
            "is unchanged. Free some space or choose another place."
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """Refuse a file that could not be written, before the work whose result it is to hold.

    Raises StorageError.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        name = _prefix(target, os.getpid())
        with tempfile.NamedTemporaryFile(prefix=name, dir=target.parent) as file:
            file.write(b"x")
        target.exists()  # a name may be too long only where it is used
    except OSError as error:
        raise StorageError(
            f"Cannot write {shortened(target)}: {error.strerror or error}. Choose another place."
        ) from error


@contextlib.contextmanager
def alone(path: str | Path) -> Iterator[None]:
    """Keep other processes that ask for the same from a file, until the end.

    Raises InputError where one has it already, StorageError where the system refuses.
    """
    from filelock import FileLock, Timeout

    target = Path(path)
    place = target.with_name(f".{_mark(target)}.lock")
    lock = FileLock(place)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"Another process is writing into {shortened(target)}. Wait for it, or choose another "
            "file."
        ) from None
    except OSError as error:
        raise StorageError(
            f"Cannot hold {shortened(target)}: {error.strerror or error}. Choose another place."
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes none that is open
            place.unlink()
        lock.release()


def _prefix(target: Path, process: int) -> str:
    """Return how the temporary files of a target and a process of this machine begin."""
    return f".{_mark(target)}.{platform.node()[:32]}.{process}."


def _mark(target: Path) -> str:
    """Return a target's name, or a digest of a long one, so that there is room for more."""
    name = target.name
    return name if len(name.encode(errors="surrogateescape")) < 150 else _digest(name)


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:32]


def _remove_abandoned(target: Path) -> None:
    """Remove the temporary files of writers that live no more."""
    begin = re.escape(f".{_mark(target)}.")
    pattern = re.compile(begin + r"(?P<node>.*)\.(?P<process>\d+)\.[a-z0-9_]{8}", re.DOTALL)
    for path in target.parent.iterdir():
        found = pattern.fullmatch(path.name)
        if found is None:
            continue
        here = found["node"] == platform.node()[:32] and hasattr(os, "fork")
        with contextlib.suppress(OSError):
            old = time.time() - path.stat().st_mtime > _ABANDONED_S
            if not _lives(int(found["process"])) if here else old:
                path.unlink()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def open_appending(path: Path) -> BinaryIO:
    """Open to read anywhere and append, without a buffer; a symbolic link is not followed.

    Whoever may write into a shared cache folder could else have us write elsewhere.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    return os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)
