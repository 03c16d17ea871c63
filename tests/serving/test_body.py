from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pyflux_transfer.errors import ImageError
from pyflux_transfer.serving.body import Buffer, receive_body, unpack
from pyflux_transfer.serving.problems import Problem
from pyflux_transfer.serving.uploads import Upload

FORM = {"content-type": "multipart/form-data; boundary=XX"}
OTHER = {"content-type": "multipart/form-data; boundary=YY"}
JSON = {"content-type": "application/json; charset=utf-8"}


def part(disposition: str, content: bytes) -> bytes:
    head = f"--XX\r\nContent-Disposition: form-data; {disposition}\r\n\r\n"
    return head.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--XX--\r\n"


def receiving(*pieces: bytes, pause_s: float = 0.0, end: bool = True) -> Callable[[], Any]:
    left = list(pieces)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(pause_s)
        if not left:
            return {"type": "http.disconnect"}
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left) or not end}

    return receive


def receive(source: Callable[[], Any], limit: int = 10, **headers: str) -> tuple[Any, list[int]]:
    counted: list[int] = []
    try:
        body = asyncio.run(receive_body(source, headers, limit, 0.2, counted.append))
    except Problem as problem:
        return problem.code, counted
    return body, counted


def test_a_body_in_pieces_is_joined_and_counted() -> None:
    assert receive(receiving(b"abc", b"", b"defg")) == (b"abcdefg", [3, 0, 4])


def test_too_long_a_body_is_left_as_soon_as_it_is_too_long() -> None:
    source = receiving(b"12345", b"67890", b"x", b"never read", b"never read")
    assert receive(source) == ("too_large", [5, 5])
    message = asyncio.run(source())
    assert message["body"] == b"never read"


def test_a_declared_length_is_refused_before_anything_is_read() -> None:
    source = receiving(b"abc")
    assert receive(source, **{"content-length": "11"}) == ("too_large", [])


def test_a_slow_an_empty_and_a_broken_body_are_told_apart() -> None:
    assert receive(receiving(b"a", b"b", b"c", pause_s=0.15))[0] == "slow_request"
    assert receive(receiving(b""))[0] == "malformed_body"
    assert receive(receiving(b"abc", end=False))[0] == "client_gone"


def test_all_bodies_together_are_bounded_and_given_back() -> None:
    buffer = Buffer(100)
    with buffer.share() as first:
        first.add(60)
        with buffer.share() as second:
            second.add(40)
            with pytest.raises(Problem, match="Too many uploads"):
                second.add(1)
        assert buffer.held == 60
        first.free()
        assert buffer.held == 0
    assert buffer.held == 0


def test_multipart_files_keep_their_order_and_names() -> None:
    body = form(
        part('name="file"; filename="a b.png"', b"\r\n--X\r\n"),
        part('name="comment"', b"ignored"),
        part('name="picture"; filename=""', b"two"),
        part('name="file"', b"three"),
        part('name="file"; filename="bad\x07\xff.png"'.encode().decode(), b""),
    )
    uploads = unpack(FORM, body, 5)
    assert [upload.data for upload in uploads] == [b"\r\n--X\r\n", b"two", b"three", b""]
    assert [upload.name for upload in uploads][:3] == ["a b.png", "image 1", "image 2"]
    assert uploads[3].name.isprintable()


def test_a_boundary_at_every_split_of_the_data_is_found() -> None:
    content = bytes(range(256)) * 40 + b"\r\n--X" * 5
    body = form(part('name="file"; filename="a"', content))
    assert unpack(FORM, body, 1) == [Upload("a", content)]


@pytest.mark.parametrize(
    ("headers", "body", "code"),
    [
        (FORM, form(), "invalid"),
        (FORM, form(part('name="comment"', b"x")), "invalid"),
        (FORM, part('name="file"; filename="a"', b"cut off"), "malformed_body"),
        (FORM, b"not a form at all", "malformed_body"),
        ({"content-type": "multipart/form-data"}, form(), "malformed_body"),
        (
            {"content-type": "multipart/form-data; boundary=YY"},
            form(part("", b"")),
            "malformed_body",
        ),
        ({"content-type": f"multipart/form-data; boundary={'Y' * 500}"}, b"x", "malformed_body"),
        (FORM, form(*[part('name="file"', b"x")] * 10_000), "too_many_images"),
        (FORM, form(*[part('name="comment"', b"x")] * 10_000), "invalid"),
        (FORM, form(part('name="file"; filename=""', b"")), "invalid"),
        (JSON, b"{", "malformed_body"),
        (JSON, b"", "malformed_body"),
        (JSON, b"[" * 100_000, "malformed_body"),
        (JSON, b'{"images": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "malformed_body"),
        (JSON, b'{"images": []}', "invalid"),
        (JSON, b'{"images": [1]}', "invalid"),
        (JSON, b'{"images": ["QQ=="], "extra": 1}', "invalid"),
        (JSON, b"[]", "invalid"),
        (JSON, b'\xff{"images": ["QQ=="]}', "malformed_body"),
        (JSON, b'{"images": [' + b'"QQ==",' * 9 + b'"QQ=="]}', "too_many_images"),
        (JSON, b'{"images": [' + b"1," * 1_000_000 + b"1]}", "too_many_images"),
        (JSON, b'{"images": [' + b'"",' * 1_000_000 + b'""]}', "too_many_images"),
        (JSON, b'{"images": [' + b"{}," * 1_000_000 + b"1]}", "too_many_images"),
        (JSON, b'{"images": [' + b"1" * 1_000_000 + b"]}", "malformed_body"),
        (JSON, b'{"images": ["\\ud800"]}', "invalid"),
        ({}, b"x", "unsupported_type"),
        ({"content-type": "text/plain"}, b"x", "unsupported_type"),
        ({"content-type": "application/x-www-form-urlencoded"}, b"x", "unsupported_type"),
        ({"content-type": "image/png", "content-encoding": "gzip"}, b"x", "unsupported_type"),
    ],
)
def test_what_is_wrong_with_a_body_is_told(headers: dict[str, str], body: bytes, code: str) -> None:
    with pytest.raises(Problem) as caught:
        unpack(headers, body, 5)
    assert caught.value.code == code
    assert len(caught.value.message) < 300


def test_base64_is_taken_plain_and_as_data_url() -> None:
    body = b'{"images": ["QUJD", "data:image/png;base64,QUJD", "no base64!"]}'
    first, second, third = unpack(JSON, body, 3)
    assert first == Upload("image 0", b"ABC")
    assert second.data == b"ABC"
    assert isinstance(third.data, ImageError)


@pytest.mark.parametrize(
    "text",
    [
        "+/8+QUI=",
        "-_8-QUI=",
        "+/8+QUI",
        "+/8+\\r\\nQUI=\\n",
        "+\\/8+QUI=",
        "DATA:image/png;base64,+/8+QUI=",
        "data:;base64,-_8-\\nQUI",
    ],
)
def test_base64_is_taken_as_tools_write_it(text: str) -> None:
    assert unpack(JSON, f'{{"images": ["{text}"]}}'.encode(), 1)[0].data == b"\xfb\xff>AB"


def test_a_form_is_taken_as_browsers_and_libraries_send_it() -> None:
    file = part('name="file"; filename="a.jpg"', b"one")
    assert unpack(FORM, form(file, part('name="file"; filename=""', b"")), 1)[0].data == b"one"
    assert len(unpack(FORM, form(*[part(f'name="t{i}"', b"v") for i in range(40)], file), 1)) == 1
    assert unpack(FORM, b"preamble\r\n" + form(file) + b"epilogue", 1)[0].data == b"one"
    named = form(part("name=\"image\"; filename*=UTF-8''%D1%84.jpg", b"one"))
    assert unpack(FORM, named, 1) == [Upload("ф.jpg", b"one")]
    coded = form(part('name="file"; filename="a"\r\nContent-Transfer-Encoding: base64', b"QUJD"))
    assert unpack(FORM, coded, 1) == [Upload("a", b"ABC")]
    assert unpack({**FORM, "content-encoding": "identity"}, form(file), 1)[0].data == b"one"


def test_a_raw_image_is_one_upload() -> None:
    assert unpack({"content-type": "IMAGE/Jpeg"}, b"abc", 1) == [Upload("image", b"abc")]
