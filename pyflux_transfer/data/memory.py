"""Memory that two processes share, without a name in any file system."""

from __future__ import annotations

import os
import tempfile


def anonymous_memory() -> int:
    """Return the descriptor of an empty memory file; the kernel frees it with its last holder."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("pyflux-transfer", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
