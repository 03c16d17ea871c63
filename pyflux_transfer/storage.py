"""Where this program keeps things between runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import platformdirs


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


def open_appending(path: Path) -> BinaryIO:
    """Open to read anywhere and append, without a buffer; a symbolic link is not followed.

    Whoever may write into a shared cache folder could else have us write elsewhere.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    return os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)
