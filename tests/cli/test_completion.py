"""What a shell is offered."""

from __future__ import annotations

from typing import Any

import pytest

from pyflux_transfer.cli.app import main

pytestmark = pytest.mark.usefixtures("fake_engine")


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("tr", ["train"]),
        ("train photos --arch resnext101_3", ["resnext101_32x8d"]),
        ("train photos --arch au", ["auto"]),
        ("compare photos --arch dino", ["dinov2_vits14", "dinov2_vitb14"]),
        ("summary wide_resnet1", ["wide_resnet101_2"]),
        ("train photos --arch vgg16 --cut block4", ["block4"]),
        ("train photos --cut s", ["stem", "stage1", "stage2", "stage3", "stage4"]),
        ("features photos --arch tiny --cut stage", ["stage1", "stage2"]),
        ("train photos --engine f", ["flux", "fake"]),
        ("train photos --device c", ["cpu", "cuda"]),
        ("train photos --weights n", ["none"]),
        ("train photos --arch resnet50 --weights imagenet1k", ["imagenet1k_v2", "imagenet1k_v1"]),
        ("train photos --optimizer a", ["adamw", "adam"]),
        ("train photos --schedule co", ["cosine", "constant"]),
        ("train photos --fit s", ["stretch"]),
        ("train photos --run", ["--run-dir"]),
        ("serve bees.safetensors --dev", ["--device"]),
        ("serve bees.safetensors --log-level w", ["warning"]),
    ],
)
def test_a_word_is_completed(
    line: str,
    offered: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = f"pyflux-transfer {line}"
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    monkeypatch.setenv("_PYFLUX_TRANSFER_COMPLETE", "complete_bash")
    with pytest.raises(SystemExit) as end:
        main([])
    assert not end.value.code
    assert capsys.readouterr().out.split() == offered


def test_the_shells_script_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer.completion

    def shell() -> Any:
        return "bash"

    monkeypatch.setattr(typer.completion, "_get_shell_name", shell)
    with pytest.raises(SystemExit) as end:
        main(["--show-completion"])
    assert not end.value.code
    assert "complete -o default -F _pyflux_transfer_completion pyflux-transfer" in (
        capsys.readouterr().out
    )
