"""`python -m benchmarks`: measure all rows, print the table."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import measure, prediction, training
from benchmarks.setting import Setting
from benchmarks.table import Row, header, line

ROWS: dict[str, Callable[[Setting], Iterator[Row]]] = {
    "training": training.rows,
    "arrays": prediction.arrays,
    "files": prediction.files,
    "decoding": prediction.decoding,
    "coldstart": prediction.cold_start,
    "growth": training.growth,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("rows", nargs="*", help=f"some of {', '.join(ROWS)}; all by default")
    parser.add_argument("--full", action="store_true", help="run every epoch of the peer")
    parser.add_argument("--tiny", action="store_true", help="a handful of photos: does it work?")
    options = parser.parse_args()
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"unknown rows: {', '.join(sorted(unknown))}; choose from {', '.join(ROWS)}")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="pyflux-bench-") as folder:
        setting = Setting.prepare(Path(folder), full=options.full, tiny=options.tiny)
        ceiling = ", ".join(f"{k} {v / 1e9:,.0f} GFLOP/s" for k, v in setting.ceiling.items())
        print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}; {ceiling}\n")
        print(header(), flush=True)
        bystanders, disturbed = measure.Bystanders(), list[str]()
        for name in options.rows or ROWS:
            for row in ROWS[name](setting):
                print(line(row.cells), flush=True)
                if (share := bystanders.share()) > 0.05:
                    disturbed.append(f"{row.name}: {share:.0%}")
    minutes = (time.perf_counter() - start) / 60
    print(f"\n{minutes:.1f} minutes")
    if disturbed:
        print("Other programs took part of the cores meanwhile:", *disturbed, sep="\n- ")


if __name__ == "__main__":
    main()
