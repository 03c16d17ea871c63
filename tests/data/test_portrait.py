from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from pyflux_transfer.data.decode import decode_picture
from pyflux_transfer.data.portrait import Portrait, portray, thumbnail
from pyflux_transfer.errors import ImageError
from tests.data.pictures import picture


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def seen(image: Image.Image, kind: str = "PNG", **settings: int) -> Portrait:
    data = encoded(image, kind)
    return portray(data, decode_picture(data, **settings))  # type: ignore[arg-type]


def test_size_and_look_of_a_photo() -> None:
    image = Image.fromarray(picture(300, 400))
    found = seen(image)
    assert (found.width, found.height) == (400, 300)
    assert found.small.shape == (48, 48, 3)
    grey = np.asarray(image.convert("L")) / 255
    assert found.brightness == pytest.approx(grey.mean(), abs=0.01)
    assert found.contrast == pytest.approx(grey.std(), abs=0.02)


def test_a_jpeg_that_is_decoded_small_tells_its_own_size() -> None:
    image = Image.fromarray(picture(1200, 1600))
    small, whole = seen(image, "JPEG", shorter_side=256), seen(image, "JPEG")
    assert (small.width, small.height) == (1600, 1200)
    assert np.abs(small.small.astype(int) - whole.small).mean() < 3
    assert small.sharpness == pytest.approx(whole.sharpness, rel=0.5)


def test_blur_takes_sharpness_whatever_the_size() -> None:
    for side in (150, 600):
        image = Image.fromarray(picture(side, side))
        blurred = image.filter(ImageFilter.GaussianBlur(side / 40))
        assert seen(blurred).sharpness < 0.2 * seen(image).sharpness


def test_the_smallest_images_are_no_trouble() -> None:
    for size in ((1, 1), (2, 500), (1, 3)):
        assert seen(Image.new("RGB", size, "red")).sharpness == 0


def test_a_thumbnail_is_a_small_jpeg_in_a_data_uri() -> None:
    text = thumbnail(encoded(Image.fromarray(picture(300, 400))))
    kind, _, data = text.partition(",")
    assert kind == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (160, 120)
    with pytest.raises(ImageError):
        thumbnail(b"no image")
