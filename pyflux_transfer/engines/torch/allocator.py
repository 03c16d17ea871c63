"""The C library's memory: how much of it is kept between two layers, and when it is given back.

glibc returns large results to the system as soon as they are freed; the next layer then pays page
faults for its own, up to a fifth of the time of a ResNet-50. To keep them takes some 100 MB: worth
it where a network is trained or served.
"""

from __future__ import annotations

import ctypes
import os
import sys

from pyflux_transfer.installation.environment import cores

# Parameters of mallopt(3), their numbers and values in bytes. What is kept at the end of the heap
# (trim), what comes from the heap at all (mmap), and what is kept at the end of the heaps of
# threads, which do not look at the first (pad).
_OPTIONS = {
    "M_TRIM_THRESHOLD": (-1, 256 << 20),
    "M_MMAP_THRESHOLD": (-3, 128 << 20),
    "M_TOP_PAD": (-2, 64 << 20),
}
# Heaps that threads share: each keeps what was freed in it, and no other can use it. With glibc's
# eight a core ResNet-50's trunk took 130 MB more and no less time; a lock shared by many cores
# would be felt.
_HEAPS = -8  # M_ARENA_MAX
_CORES_A_HEAP = 4
_CHOSEN = ("LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_")

_kept = False


def memory_is_kept() -> bool:
    """Tell whether `keep_memory` has done so in this process."""
    return _kept


def share_heaps() -> None:
    """Let threads share few heaps; those that there are stay."""
    if library := _ours():
        library.mallopt(_HEAPS, max(1, cores() // _CORES_A_HEAP))


def give_back() -> None:
    """Give what is freed back to the system: a few milliseconds, after work that is done once."""
    if library := _ours():
        library.malloc_trim(0)


def keep_memory() -> bool:
    """Let glibc keep some hundred megabytes of what is freed; return whether it will."""
    global _kept
    library = _ours()
    _kept = library is not None and all(
        library.mallopt(*option) == 1 for option in _OPTIONS.values()
    )
    return _kept


def _ours() -> ctypes.CDLL | None:
    """Return glibc where it allocates, and as it came.

    An allocator that somebody has chosen or set up by an environment variable is left alone, and so
    is any but glibc's.
    """
    if sys.platform != "linux" or any(name.startswith(_CHOSEN) for name in os.environ):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
