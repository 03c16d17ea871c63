"""API keys: several at once, so that they can be rotated."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from pydantic import SecretStr

from pyflux_transfer.errors import InputError


class Keys:
    """The keys of the settings and of the key file; without any, every caller may predict."""

    def __init__(self, given: tuple[SecretStr, ...], file: Path | None) -> None:
        self._given = [key.get_secret_value() for key in given]
        self._file = file
        self._digests: list[bytes] = []
        self.reload()

    def reload(self) -> None:
        """Read the key file again.

        Raises InputError when it cannot be read or names no key; the old keys then stay.
        """
        keys = list(self._given)
        if self._file is not None:
            keys += _read(self._file)
        self._digests = [sha256(key.encode()).digest() for key in keys]

    @property
    def wanted(self) -> bool:
        """Tell whether callers need a key."""
        return bool(self._digests)

    def admit(self, headers: Mapping[str, str]) -> bool:
        """Tell whether a request's headers (names in lower case) hold one of the keys."""
        if not self._digests:
            return True
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            token = headers.get("x-api-key", "")
        digest = sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
        # All keys are compared, so that the time says nothing about which one was near.
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0


def _read(file: Path) -> list[str]:
    try:
        lines = [line.strip() for line in file.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the API keys in {file}: {error}.") from None
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise InputError(f"{file} holds no API key. Write one a line, or leave the option out.")
    return keys
