from __future__ import annotations

import json

import pytest

from pyflux_transfer.errors import InputError
from pyflux_transfer.serving.settings import settings


def test_options_win_over_the_environment_and_that_over_the_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYFLUX_PORT", "9001")
    monkeypatch.setenv("PYFLUX_QUEUE", "64")
    found = settings(bundle="a.safetensors", port="9002")
    assert (found.port, found.queue, found.max_images) == (9002, 64, 32)


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYFLUX_API_KEYS", "first, second ,")
    monkeypatch.setenv("PYFLUX_CORS_ORIGINS", "https://a.example,https://b.example/")
    found = settings(bundle="a.safetensors")
    assert [key.get_secret_value() for key in found.api_keys] == ["first", "second"]
    assert found.cors_origins == ("https://a.example", "https://b.example")


def test_secrets_are_hidden_when_shown() -> None:
    found = settings(bundle="a.safetensors", api_keys="topsecret", ssl_keyfile_password="hush")
    text = json.dumps(found.shown()) + repr(found)
    assert "topsecret" not in text
    assert "hush" not in text
    assert "**********" in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "the BUNDLE is missing"),
        ({"port": "99999"}, "--port must be at most 65535, got '99999'"),
        ({"queue": 8, "max_images": 9}, r"--queue \(8\) must not be less than --max-images \(9\)"),
        ({"ssl_keyfile": "a.key"}, "--ssl-keyfile needs --ssl-certfile"),
        ({"engine": "tensorflow"}, "--engine must be one of auto, flux, torch, onnx, got"),
    ],
)
def test_a_wrong_setting_is_named(given: dict[str, object], said: str) -> None:
    bundle = {} if not given else {"bundle": "a.safetensors"}
    with pytest.raises(InputError, match=said):
        settings(**bundle, **given)


@pytest.mark.parametrize("named", ["", " ", ",", " , ", "\ufeff"])
def test_an_empty_list_of_keys_is_an_error_and_not_an_open_door(
    monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.setenv("PYFLUX_API_KEYS", named)
    with pytest.raises(InputError, match="names no key"):
        settings(bundle="a.safetensors")


def test_a_byte_order_mark_is_no_part_of_a_key() -> None:
    found = settings(bundle="a.safetensors", api_keys="\ufeffone,two")
    assert [key.get_secret_value() for key in found.api_keys] == ["one", "two"]
