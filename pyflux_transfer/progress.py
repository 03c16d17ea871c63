"""What watches long work for a person: bars and lines on a terminal, in a log, in a notebook."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from pyflux_transfer.errors import counted, readable

if TYPE_CHECKING:
    from rich.console import Console

    from pyflux_transfer.training.callbacks import Record

_REFRESH_S = 0.2  # of a notebook's bar, each change of which is a message


class Progress:
    """Watches a run: give it as `watcher=`.

    On a terminal work is a bar, in a notebook one area of the cell that changes; elsewhere, and
    when it has ended, a line.
    """

    def __init__(self, out: Console | None = None) -> None:
        from pyflux_transfer.insight.tables import console  # starts rich

        self.out = out or console
        self.area = _Area()

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar with rate and remaining time; at its end, or without a terminal, one line."""
        start = time.perf_counter()
        with (_cell if self.out.is_jupyter else _terminal)(self, title, total) as advance:
            yield advance
        seconds = time.perf_counter() - start
        self.line(
            f"{title}: {counted(total, 'image')} in {seconds:.1f} s ({total / seconds:.0f}/s)"
        )

    def line(self, text: str) -> None:
        """Print a line."""
        if self.out.is_jupyter:
            print(readable(text))  # where each of rich's lines were an output of its own
        else:
            self.out.print(readable(text), soft_wrap=True)

    def epoch(self, record: Record, epochs: int) -> None:
        """Print one line an epoch."""
        width = len(str(epochs))
        parts = [f"epoch {record.epoch:>{width}}/{epochs}", f"loss {record.train_loss:.4f}"]
        if record.valid_loss is not None and record.valid_accuracy is not None:
            parts.append(f"valid loss {record.valid_loss:.4f}")
            parts.append(f"accuracy {record.valid_accuracy:.1%}")
        parts += [f"lr {record.lr:.2g}", f"{record.seconds:.2f} s"]
        self.line("  ".join(parts))


@contextmanager
def _terminal(watcher: Progress, title: str, total: int) -> Iterator[Callable[[int], None]]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars
    from rich.text import Text

    class Rate(ProgressColumn):
        """Items a second."""

        def render(self, task: Task) -> Text:
            """Show the rate, once there is one."""
            return Text(f"{task.speed:.0f}/s" if task.speed else "")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(),
               TimeRemainingColumn())  # fmt: skip
    with Bars(*columns, console=watcher.out, transient=True,
              disable=not watcher.out.is_terminal) as progress:  # fmt: skip
        task = progress.add_task(title, total=total)
        yield lambda count: progress.advance(task, count)


class _Area:
    """The one part of a cell's output that changes."""

    def __init__(self) -> None:
        self._cell = -1
        self._handle: Any = None

    def show(self, plain: str, html: str) -> None:
        """Show this in place of what was shown in the same cell."""
        from IPython.core.getipython import get_ipython
        from IPython.display import display

        data = {"text/plain": plain, "text/html": html}
        cell = getattr(get_ipython(), "execution_count", 0)
        if self._handle is None or cell != self._cell:
            self._cell, self._handle = cell, display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)


@contextmanager
def _cell(watcher: Progress, title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar in a notebook's cell, and nothing when it has ended."""
    start = drawn = time.perf_counter()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, drawn
        done += count
        now = time.perf_counter()
        if now - drawn >= _REFRESH_S or done == count:
            drawn = now
            said = f"{title}: {done}/{total}  {done / max(now - start, 1e-9):.0f}/s"
            watcher.area.show(said, _BAR.format(done, total, escape(said)))

    try:
        yield advance
    finally:
        if done:
            watcher.area.show("", "")


_BAR = "<progress value='{}' max='{}'></progress> {}"
