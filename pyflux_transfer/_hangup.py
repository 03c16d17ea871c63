"""A hang-up asks a service to load its bundle again; one that comes too early must not end it.

This comes before the imports that take most of a second.
"""

import signal
import sys
from pathlib import Path

_OURS = Path(sys.argv[0]).name == "pyflux-transfer" or "pyflux_transfer" in sys.orig_argv

if _OURS and sys.argv[1:2] == ["serve"] and hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
