"""What the service answers when it cannot: one table, one error body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyflux_transfer.errors import ServiceError

# code → (HTTP status, hint)
PROBLEMS: dict[str, tuple[int, str]] = {
    "malformed_body": (400, "Check how the request is put together; see /docs."),
    "unauthorized": (401, "Send the key as `Authorization: Bearer …` or `X-API-Key: …`."),
    "not_found": (404, "The routes are listed in /docs."),
    "method_not_allowed": (405, "The routes and their methods are listed in /docs."),
    "slow_request": (408, "Send the whole request faster, or a smaller one."),
    "too_large": (413, "Send fewer or smaller images; sides of 1000 pixels are plenty."),
    "too_many_images": (413, "Split the images over several requests."),
    "unsupported_type": (
        415,
        "Send multipart/form-data with `file` parts, a raw image/* body, or JSON "
        '{"images": ["<base64>"]}.',
    ),
    "invalid": (422, "See /docs for what the request must hold."),
    "bad_image": (422, "Leave these images out, or convert them to JPEG or PNG."),
    "queue_full": (429, "Try again after the seconds in Retry-After."),
    "client_full": (429, "Wait for the answers, or try again after the seconds in Retry-After."),
    "client_gone": (499, "The client closed the connection before the answer."),
    "engine_error": (500, "Try again; if it stays, tell the service's operator the request id."),
    "internal": (500, "Tell the service's operator the request id."),
    "overloaded": (503, "Try again after the seconds in Retry-After, with fewer connections."),
    "no_worker": (503, "Try again after the seconds in Retry-After; /readyz says more."),
    "worker_lost": (503, "Try again after the seconds in Retry-After."),
    "deadline": (504, "Try again later, with fewer images a request."),
}

# statuses that the framework raises by itself
CODES = {400: "malformed_body", 404: "not_found", 405: "method_not_allowed", 422: "invalid"}


class Problem(ServiceError):
    """One failed request: `code` is a row of PROBLEMS, `message` says what was wrong with this one.

    `images` lists per-image reasons, `retry_after_s` is sent as Retry-After.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        images: Sequence[dict[str, Any]] = (),
        retry_after_s: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status, self.hint = PROBLEMS[code]
        self.images = list(images)
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(retry_after_s)

    def to_json(self) -> dict[str, Any]:
        """Return the error body."""
        error = {"code": self.code, "message": self.message, "hint": self.hint}
        return {"error": {**error, "images": self.images} if self.images else error}
