"""The service's settings: one table for the options, the environment and `--show-config`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from pyflux_transfer.errors import InputError
from pyflux_transfer.installation.environment import cores
from pyflux_transfer.rules import rule

MIB = 1024 * 1024
BUNDLE_LOADER = "pyflux_transfer.serving.model:open_bundle"
CPUS = cores()


class Settings(BaseSettings):
    """Every field is an option of `serve` and an environment variable `PYFLUX_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="PYFLUX_", frozen=True, env_ignore_empty=True)

    bundle: Path = Field(description="The .safetensors bundle to serve.")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    root_path: str = Field("", description="Path prefix that a proxy in front strips.")
    forwarded_allow_ips: str = Field(
        "127.0.0.1", description="Proxies whose X-Forwarded-* headers are believed."
    )
    ssl_certfile: Path | None = Field(None, description="TLS certificate.")
    ssl_keyfile: Path | None = Field(None, description="TLS key.")
    ssl_keyfile_password: SecretStr | None = Field(None, description="Password of the TLS key.")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins, separated by commas, whose pages may call the service."
    )

    engine: Literal["auto", "flux", "torch", "onnx"] = Field("auto", description="What computes.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where it computes.")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="Number format.")
    workers: int = Field(0, ge=0, le=64, description="Worker processes; 0: one a device.")
    threads: int = Field(
        0, ge=0, description="Threads of a worker; 0: its share of the processors."
    )
    decode_threads: int = Field(
        CPUS, ge=1, le=256, description="Images decoded at a time, each in a process of its own."
    )
    decode_s: float = Field(10.0, gt=0, description="Time to decode an image.")
    decode_bytes: int = Field(
        2048 * MIB, ge=64 * MIB, description="Most memory that decoding large images takes."
    )
    max_batch: int = Field(
        0, ge=0, le=1024, description="Images computed together at most; 0: 8, with a GPU 32."
    )
    window_ms: float = Field(
        5.0, ge=0, le=1000, description="How long a batch waits for images that are being decoded."
    )

    max_body_bytes: int = Field(10 * MIB, ge=1, description="Largest request body.")
    max_pixels: int = Field(50_000_000, ge=1, description="Most pixels of an image.")
    max_images: int = Field(32, ge=1, description="Most images a request.")
    queue: int = Field(256, ge=1, le=65536, description="Most images accepted and unanswered.")
    client_images: int = Field(
        0, ge=0, description="Most images unanswered for one key, or address; 0: no such limit."
    )
    buffer_bytes: int = Field(
        256 * MIB, ge=1, description="Most bytes of request bodies held at a time."
    )
    max_connections: int = Field(
        1000, ge=8, description="Most connections; the oldest idle one makes room for a new one."
    )
    deadline_s: float = Field(30.0, gt=0, description="Time to answer a request once received.")
    receive_s: float = Field(
        30.0, gt=0, description="Time to send the headers, the body, and to read the answer."
    )
    keep_alive_s: int = Field(5, ge=1, description="How long an idle connection stays open.")
    grace_s: int = Field(30, ge=1, description="Time to answer what was accepted, at SIGTERM.")
    startup_s: float = Field(600.0, gt=0, description="Time to load the bundle and warm up.")

    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="Keys, separated by commas, that may predict. Better in the environment."
    )
    api_key_file: Path | None = Field(
        None, description="File with a key a line; read again at SIGHUP."
    )
    reload_model: bool = Field(False, description="Load the bundle again when its file changes.")
    log_format: Literal["plain", "json"] = Field("plain", description="Form of the log lines.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="What is logged; `warning` leaves out the requests."
    )
    otel: bool = Field(
        False, description="Send OpenTelemetry traces, as the OTEL_ variables say; needs [otel]."
    )
    loader: str = Field(BUNDLE_LOADER, description="Function that opens the bundle in the worker.")

    @field_validator("api_keys", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        # A file that was edited on Windows may begin with a byte-order mark.
        parts = (part.strip().strip("\ufeff") for part in value.split(","))
        return tuple(part for part in parts if part)

    @field_validator("cors_origins")
    @classmethod
    def _as_sent(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(origin.rstrip("/") for origin in origins)  # browsers send none

    @model_validator(mode="after")
    def _agree(self) -> Settings:
        if self.queue < self.max_images:
            raise ValueError(
                f"--queue ({self.queue}) must not be less than --max-images ({self.max_images})"
            )
        if 0 < self.client_images < self.max_images:
            raise ValueError(
                f"--client-images ({self.client_images}) must not be less than --max-images "
                f"({self.max_images})"
            )
        if self.ssl_keyfile and not self.ssl_certfile:
            raise ValueError("--ssl-keyfile needs --ssl-certfile too")
        return self

    def shown(self) -> dict[str, Any]:
        """Return all settings as plain data, secrets hidden."""
        return self.model_dump(mode="json")


def settings(**given: Any) -> Settings:
    """Make the settings from what was given, the environment and the defaults, in this order.

    Raises InputError that names each wrong setting, its value's fault, and its variable.
    """
    named = given.get("api_keys", os.environ.get("PYFLUX_API_KEYS"))
    if isinstance(named, str) and not named.strip(", \ufeff"):
        # Whoever sets it means to be protected: to serve everybody then would be a trap.
        raise InputError("PYFLUX_API_KEYS names no key. Write the keys, or leave it out.")
    try:
        return Settings(**given)
    except ValidationError as error:
        faults = map(_said, error.errors(include_url=False))
        raise InputError(
            f"Wrong settings: {'; '.join(faults)}. Set them as options or as PYFLUX_<NAME>. "
            "See: pyflux-transfer serve --help"
        ) from None


def _said(fault: Any) -> str:
    """Say what is wrong with a setting, by its option; a secret's value is not shown."""
    if not fault["loc"]:
        return str(fault["msg"]).removeprefix("Value error, ")
    name = str(fault["loc"][0])
    secret = "Secret" in str(Settings.model_fields[name].annotation)
    option = "the BUNDLE" if name == "bundle" else f"--{name.replace('_', '-')}"
    return f"{option} {rule(fault, shown=not secret)}"
