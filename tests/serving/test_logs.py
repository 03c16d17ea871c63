from __future__ import annotations

import json
import logging
import subprocess
import sys

from pyflux_transfer.serving.logs import JsonFormatter, PlainFormatter


def record(message: str, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("a.b", logging.WARNING, "file", 1, message, (), None)
    made.fields = fields
    return made


def test_json_lines_hold_the_fields_and_stay_one_line() -> None:
    line = JsonFormatter().format(record('two\nlines "quoted"', status=200, path="/a\nb"))
    assert "\n" not in line
    row = json.loads(line)
    assert (row["message"], row["status"], row["level"]) == (
        'two\nlines "quoted"',
        200,
        "warning",
    )
    assert row["time"].endswith("+00:00")


def test_a_traceback_is_kept() -> None:
    made = record("failed")
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        made.exc_info = sys.exc_info()
    assert "RuntimeError: boom" in json.loads(JsonFormatter().format(made))["traceback"]
    assert "RuntimeError: boom" in PlainFormatter().format(made)


def test_plain_lines_show_the_fields_behind_the_message() -> None:
    assert PlainFormatter().format(record("request", status=200)).endswith("request status=200")
    forged = PlainFormatter().format(record("request", path="/a\n2030 INFO status=200"))
    assert forged.endswith('path="/a\\n2030 INFO status=200"')
    assert PlainFormatter().format(record("hello")).endswith("WARNING hello")


def test_the_lines_of_all_libraries_have_the_chosen_form() -> None:
    program = (
        "import logging, warnings; from pyflux_transfer.serving.logs import configure;"
        "configure('json', 'info'); logging.getLogger('PIL.Image').warning('odd');"
        "logging.getLogger('python_multipart.multipart').warning('odd');"
        "logging.getLogger('uvicorn.error').info('odd'); warnings.warn('odd');"
        "logging.getLogger('some.library').info('not heard')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    rows = [json.loads(line) for line in done.stderr.splitlines()]
    assert [row["logger"] for row in rows] == [
        "PIL.Image", "python_multipart.multipart", "uvicorn.error", "py.warnings",
    ]  # fmt: skip
