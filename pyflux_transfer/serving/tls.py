"""TLS: files that are tried before they are used, and read again while the service runs."""

from __future__ import annotations

import ssl

from pyflux_transfer.errors import InputError
from pyflux_transfer.serving.settings import Settings


def check(settings: Settings) -> None:
    """Raise InputError for a certificate or a key that cannot be used."""
    if settings.ssl_certfile:
        load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), settings)


def load(context: ssl.SSLContext, settings: Settings) -> None:
    """Read certificate and key into a context; later handshakes use them.

    Raises InputError; what was there before is then still in use.
    """
    password = settings.ssl_keyfile_password
    assert settings.ssl_certfile
    try:
        context.load_cert_chain(
            settings.ssl_certfile,
            settings.ssl_keyfile,
            # A function, or OpenSSL asks at the terminal for the password of an encrypted key.
            lambda: password.get_secret_value() if password else "",
        )
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise InputError(f"The TLS files cannot be used: {error}.") from None
