"""What every answer tells browsers: take it for what it is, in no frame, with nothing from afar."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders

POLICY = "Content-Security-Policy"
# Pages with a style and a script of their own, which ask this service and no other.
PAGE_POLICY = {
    POLICY: (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        "connect-src 'self'; img-src 'self' blob: data:; form-action 'none'; "
        "base-uri 'none'; frame-ancestors 'none'"
    )
}
_EVERYWHERE = {
    POLICY: "default-src 'none'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def secure(headers: MutableHeaders) -> None:
    """Add to an answer's headers what it does not say itself."""
    for name, value in _EVERYWHERE.items():
        headers.setdefault(name, value)
