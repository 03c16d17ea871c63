"""The command line: arguments, then one library call a command."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from pyflux_transfer.cli import (
    cache,
    check,
    compare,
    demo,
    evaluate,
    export,
    features,
    following,
    networks,
    predict,
    report,
    search,
    serve,
    setup,
    train,
)
from pyflux_transfer.cli.help import Program
from pyflux_transfer.cli.usage import told
from pyflux_transfer.errors import PyFluxTransferError, readable, shortened

app = Program(
    name="pyflux-transfer",
    help="Train an image classifier from a folder of labelled photos, use it, serve it.",
)


def _version(asked: bool) -> None:
    if asked:
        from pyflux_transfer.installation.versions import versions

        for name, version in versions():
            print(f"{name} {version}" if name == app.info.name else f"{name}: {version}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Show the versions of the program and its engines.",
            callback=_version,
            is_eager=True,
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show an error's traceback.")] = False,
) -> None:
    """Train an image classifier from a folder of labelled photos, use it, serve it."""
    del version, debug  # `main` takes --debug wherever it stands


for group in (
    check,
    train,
    compare,
    search,
    evaluate,
    report,
    predict,
    export,
    features,
    following,
    networks,
    cache,
    demo,
    setup,
    serve,
):
    group.register(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an error is one line on stderr and an exit status.

    2 is the user's input, 1 everything else, 130 Ctrl-C. `--debug` anywhere adds the traceback.
    """
    # What is imported lives to the end. Collecting garbage among it, often while it is made and
    # once more at the exit, takes a quarter of the time of a short command.
    gc.set_threshold(100_000)
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name need not be writable in its encoding
            stream.reconfigure(errors="backslashreplace")
    try:
        status = app(
            [w for w in words if w != "--debug"] or ["--help"],
            prog_name="pyflux-transfer", standalone_mode=False,
        )  # fmt: skip
    except Exception as error:
        if debug:
            traceback.print_exc()
        status = _told(error, words)
    gc.freeze()
    sys.exit(_flushed() or status)


def _flushed() -> int:
    """Write out what was printed; where that cannot be, say so and return the exit status."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer would be tried again, and complained about, at the exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _told(error)
    return 0


def _told(error: Exception, words: Sequence[str] = ()) -> int:
    """Print an error's message on stderr and return its exit status."""
    message, status = _explained(error, words)
    if message:
        with contextlib.suppress(OSError):
            print("error:", *map(readable, message.splitlines()), file=sys.stderr)
    return status


def _explained(error: Exception, words: Sequence[str]) -> tuple[str, int]:
    """Return an error's message and exit status."""
    if isinstance(error, PyFluxTransferError):
        return str(error), error.exit_status
    if isinstance(error, BrokenPipeError):  # whoever read the output has seen enough
        return "", 1
    if isinstance(error, MemoryError):
        return (
            "The memory does not suffice. End other programs, or give a smaller --batch-size or "
            "--max-pixels where the command has them.",
            1,
        )
    if isinstance(error, OSError):
        place = f"'{shortened(error.filename)}': " if error.filename else ""
        return f"The system refuses: {place}{error.strerror or error}.", 1
    if isinstance(error, typer.TyperException):  # wrong usage
        return told(error, words), error.exit_code
    return f"{type(error).__name__}: {error} (a fault of the program; see --debug)", 1
