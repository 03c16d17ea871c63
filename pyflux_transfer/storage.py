"""Where this program keeps things between runs."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Return the user's cache folder; the environment variable PYFLUX_CACHE overrides it."""
    given = os.environ.get("PYFLUX_CACHE")
    return Path(given) if given else platformdirs.user_cache_path("pyflux-transfer")


def features_folder() -> Path:
    """Return where features are kept between runs, in the user's cache folder."""
    return cache_folder() / "features"
