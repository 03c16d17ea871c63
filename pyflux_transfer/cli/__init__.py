"""The command line: a file for each group of commands, and what they print."""

import signal
import sys

# A hang-up asks a running service to load its bundle again. One that comes while the program is
# still being imported has nothing to say, and must not end it.
if sys.argv[1:2] == ["serve"] and hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
