"""The C library's memory between two layers: kept, not given back and asked for again.

glibc returns large results to the system as soon as they are freed; the next layer then pays page
faults for its own, up to a fifth of the time of a ResNet-50. To keep them takes some 100 MB: worth
it where a network is trained or served.
"""

from __future__ import annotations

import ctypes
import os
import sys

# Parameters of mallopt(3), their numbers and values in bytes. What is kept at the end of the heap
# (trim), what comes from the heap at all (mmap), and what is kept at the end of the heaps of
# threads, which do not look at the first (pad).
_OPTIONS = {
    "M_TRIM_THRESHOLD": (-1, 256 << 20),
    "M_MMAP_THRESHOLD": (-3, 128 << 20),
    "M_TOP_PAD": (-2, 64 << 20),
}
_CHOSEN = ("LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_")

_kept = False


def memory_is_kept() -> bool:
    """Tell whether `keep_memory` has done so in this process."""
    return _kept


def keep_memory() -> bool:
    """Let glibc keep some hundred megabytes of what is freed; return whether it will.

    An allocator that somebody has chosen or set up by an environment variable is left alone, and so
    is any but glibc's.
    """
    global _kept
    if sys.platform != "linux" or any(name.startswith(_CHOSEN) for name in os.environ):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    _kept = all(library.mallopt(*option) == 1 for option in _OPTIONS.values())
    return _kept
