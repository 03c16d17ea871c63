"""Help fits the terminal, whole words in every column, and what people need stands first."""

from __future__ import annotations

import re

import pytest
import typer.main

from pyflux_transfer.cli.app import app, main

COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def shown(words: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    with pytest.raises(SystemExit) as end:
        main([*words, "--help"])
    assert end.value.code == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits(
    command: str, width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = shown(command.split(), capsys)
    assert max(map(len, lines)) <= width
    assert not re.search(r"[…│╭\x1b]|\.\.\.$", re.sub(r"flip,crop,…|cut\s+…", "", "\n".join(lines)))
    assert not re.search(r"<\w+( range)?>|x>=", "\n".join(lines))


def test_the_options_of_training_stand_under_headings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = shown(["train"], capsys)
    headings = [line for line in lines if re.fullmatch(r"\w.*:", line)]
    assert headings == ["Arguments:", "Options:", "Data:", "Model:", "Training by steps:",
                        "Output:", "Computing:", "Shares, and a cluster:"]  # fmt: skip
    first = lines[lines.index("Options:") : lines.index("Data:")]
    names = [line.split()[0] for line in first if line.startswith("  --")]
    assert names == ["--arch", "--quality", "--minutes", "--out", "--quiet", "--help"]


def test_every_option_of_training_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    train = typer.main.get_command(app).commands["train"]  # type: ignore[attr-defined]
    lines = shown(["train"], capsys)
    text = "\n".join(lines)
    for option in train.params:
        assert option.help, option.name
        assert f"{option.opts[0] if option.opts[0].startswith('--') else 'DATA'}" in text
