"""Pages that a browser opens from the disk: a template and data, nothing fetched from anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyflux_transfer.errors import InputError

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> str:
    """Return a template of this package filled with values, every one of them escaped."""
    return _environment().get_template(template).render(**values)


def possible() -> None:
    """Raise InputError where pages cannot be made, before there is something to show."""
    _environment()


def _environment() -> Environment:
    try:
        import jinja2
    except ModuleNotFoundError:
        raise InputError(
            "A page needs jinja2. Install it: pip install 'pyflux-transfer[report]'."
        ) from None
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True,
        lstrip_blocks=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip
