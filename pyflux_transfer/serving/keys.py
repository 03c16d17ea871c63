"""API keys: several at once, so that they can be rotated."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from pydantic import SecretStr
from starlette.requests import HTTPConnection

from pyflux_transfer.errors import InputError


class Keys:
    """The keys of the settings and of the key file; without any, every caller may predict."""

    def __init__(self, given: tuple[SecretStr, ...], file: Path | None) -> None:
        self._given = [key.get_secret_value() for key in given]
        self._file = file
        self._names: dict[bytes, str] = {}  # by the digest of the key
        self.reload()

    def reload(self) -> None:
        """Read the key file again.

        Raises InputError when it cannot be read or names no key; the old keys then stay.
        """
        keys = [(f"key {place}", key) for place, key in enumerate(self._given, 1)]
        if self._file is not None:
            keys += _read(self._file)
        self._names = {sha256(key.encode()).digest(): name for name, key in keys}

    @property
    def wanted(self) -> bool:
        """Tell whether callers need a key."""
        return bool(self._names)

    def admit(self, headers: Mapping[str, str]) -> bool:
        """Tell whether a request's headers (names in lower case) hold one of the keys."""
        return not self._names or self.name(headers) is not None

    def name(self, headers: Mapping[str, str]) -> str | None:
        """Return the name of the key in a request's headers, None where there is no known one."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            token = headers.get("x-api-key", "")
        digest = sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
        found = None
        # All keys are compared, so that the time says nothing about which one was near.
        for known, name in self._names.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found

    def client(self, request: HTTPConnection) -> str:
        """Return who asks: the name of the key, or the address where no key is needed."""
        if self._names:
            return self.name(request.headers) or ""
        host, _ = request.scope.get("client") or ("", 0)
        return str(host)

    def label(self, request: HTTPConnection) -> str:
        """Return who asks, for metrics: the name of a key, of which there are few, or nothing."""
        return self.name(request.headers) or "" if self._names else ""


def _read(file: Path) -> list[tuple[str, str]]:
    """Return (name, key) of each line: a key alone is named by its place."""
    try:
        lines = [line.strip() for line in file.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the API keys in {file}: {error}.") from None
    keys = []
    for number, line in enumerate(lines, 1):
        if line and not line.startswith("#"):
            *name, key = line.rsplit(maxsplit=1)
            keys.append((name[0] if name else f"line {number}", key))
    if not keys:
        raise InputError(f"{file} holds no API key. Write one a line, or leave the option out.")
    return keys
