from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from pyflux_transfer.errors import InputError
from pyflux_transfer.serving.keys import Keys

BOTH = (SecretStr("old-key"), SecretStr("new-key"))


def test_without_keys_everyone_is_admitted() -> None:
    assert Keys((), None).admit({})


@pytest.mark.parametrize(
    ("headers", "admitted"),
    [
        ({"authorization": "Bearer old-key"}, True),
        ({"authorization": "bearer new-key"}, True),
        ({"x-api-key": "new-key"}, True),
        ({}, False),
        ({"x-api-key": ""}, False),
        ({"x-api-key": "new-ke"}, False),
        ({"x-api-key": "new-keyy"}, False),
        ({"authorization": "Basic old-key"}, False),
        ({"authorization": "Bearer ключ"}, False),
        ({"authorization": "Bearer wrong", "x-api-key": "new-key"}, False),
    ],
)
def test_several_keys_are_known_at_once(headers: dict[str, str], admitted: bool) -> None:
    assert Keys(BOTH, None).admit(headers) is admitted


def test_the_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# team A\none\n\ntwo\n")
    keys = Keys((), file)
    assert keys.admit({"x-api-key": "one"})
    file.write_text("three\n")
    keys.reload()
    assert not keys.admit({"x-api-key": "one"})
    assert keys.admit({"x-api-key": "three"})


def test_a_byte_order_mark_is_no_part_of_a_key(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
    assert Keys((), file).admit({"x-api-key": "one"})


def test_a_file_without_keys_does_not_open_the_service(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("one\n")
    keys = Keys((), file)
    file.write_text("# all gone\n")
    with pytest.raises(InputError, match="holds no API key"):
        keys.reload()
    assert not keys.admit({})
    assert keys.admit({"x-api-key": "one"})
    with pytest.raises(InputError, match="Cannot read the API keys"):
        Keys((), tmp_path / "missing")


def test_keys_have_names(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# who, what\nteam A  one\ntwo\n")
    keys = Keys(BOTH, file)
    named = {
        key: keys.name({"x-api-key": key}) for key in ("old-key", "new-key", "one", "two", "x")
    }
    assert named == {
        "old-key": "key 1", "new-key": "key 2", "one": "team A", "two": "line 3", "x": None,
    }  # fmt: skip
