from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from pyflux_transfer.serving.settings import Settings


def serve(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pyflux_transfer", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb", **environment},
    )


def test_every_setting_is_an_option() -> None:
    shown = serve("--help").stdout
    hidden = {"bundle", "loader"}
    for name in set(Settings.model_fields) - hidden:
        assert f"--{name.replace('_', '-')}" in shown, name
    assert "--loader" not in shown
    assert re.search(r"BUNDLE", shown, re.IGNORECASE)


def test_the_settings_are_shown_with_secrets_hidden() -> None:
    done = serve(
        "a.safetensors", "--port", "0", "--reload-model", "--show-config", PYFLUX_API_KEYS="abc,def"
    )
    shown = json.loads(done.stdout)
    assert set(shown) == set(Settings.model_fields)
    assert (shown["port"], shown["reload_model"], shown["bundle"]) == (0, True, "a.safetensors")
    assert shown["api_keys"] == ["**********"] * 2
    assert "abc" not in done.stdout + done.stderr


def test_the_environment_alone_is_enough() -> None:
    done = serve("--show-config", PYFLUX_BUNDLE="b.safetensors", PYFLUX_QUEUE="99")
    shown = json.loads(done.stdout)
    assert (shown["bundle"], shown["queue"]) == ("b.safetensors", 99)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.safetensors"], "error: No such file: missing.safetensors."),
        ([], "error: Wrong settings: the BUNDLE is missing."),
        (
            ["a", "--port", "many"],
            "error: Wrong settings: --port must be a whole number, got 'many'.",
        ),
        (["a", "--api-key-file", "/missing", "--loader", "x:y"], "error: Cannot read the API keys"),
        (["a", "--ssl-certfile", "/missing", "--loader", "x:y"], "error: The TLS files cannot be"),
    ],
)
def test_a_wrong_start_is_one_line_and_status_2(arguments: list[str], said: str) -> None:
    done = serve(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(said)
    assert len(done.stderr.splitlines()) == 1


def test_a_taken_port_is_said_and_ends_with_status_1() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = serve("a", "--port", str(taken.getsockname()[1]), "--loader", "x:y")
    assert done.returncode == 1
    assert "address already in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_other_commands_start_without_the_web_packages() -> None:
    program = (
        "import sys; sys.modules['pydantic_settings'] = None; sys.modules['fastapi'] = None; "
        "from pyflux_transfer.cli.app import main; sys.argv = ['x', {!r}]; main()"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program.format("models")], capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    refused = subprocess.run(
        [sys.executable, "-c", program.format("serve")], capture_output=True, text=True
    )
    assert refused.returncode == 1
    assert "pip install 'pyflux-transfer[serve]'" in refused.stderr
