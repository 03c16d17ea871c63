"""Remove what no service reads from an environment: headers, tests, tools of building.

Usage: python slim.py ENVIRONMENT. What it removes, and how much, is printed.
"""

import shutil
import sys
from pathlib import Path

# Patterns in site-packages. PyTorch's are of its C++ side: nothing is compiled here.
UNREAD = (
    "torch/bin/*",
    "torch/include",
    "torch/lib/*.a",
    "torch/lib/*_test*.so",
    "torch/share",
    "torch/test",
    "torch/testing/_internal/py3*",
    "*/tests",
    "*/*/tests",
    "pip",
    "pip-*.dist-info",
)
KEPT = {"torch_shm_manager"}


def main(environment: Path) -> None:
    """Remove what is listed above, and pip's commands."""
    (packages,) = environment.glob("lib/python3*/site-packages")
    for pattern in UNREAD:
        found = [path for path in packages.glob(pattern) if path.name not in KEPT]
        if found:
            print(f"{sum(map(size, found)) / 1e6:6.1f} MB  {pattern}")
        for path in found:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in environment.glob("bin/pip*"):
        path.unlink()


def size(path: Path) -> int:
    """Return the bytes of a file, or of all in a folder."""
    return sum(part.stat().st_size for part in [path, *path.rglob("*")] if part.is_file())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
