"""The JSON form of a request: images as base64 texts, counted before anything is built of them."""

from __future__ import annotations

from pydantic import ValidationError

from pyflux_transfer.serving.problems import Problem
from pyflux_transfer.serving.schemas import ImageList
from pyflux_transfer.serving.uploads import Upload, from_base64, too_many


def unpack_texts(body: bytes, most: int) -> list[Upload]:
    """Return the images of a JSON body, at most `most`.

    Raises Problem: `too_many_images`, `malformed_body`, `invalid`, at the first fault.
    """
    # Base64 holds neither quotes nor brackets, and a `data:` URL one comma: so many of them are
    # too many images, or no images at all. Counting costs milliseconds, building lists seconds.
    if body.count(b'"') > 2 * (most + 1) + 2 or body.count(b",") > 2 * most + 2:
        raise too_many(most)
    try:
        images = ImageList.model_validate_json(body).images
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(map(str, fault["loc"]))
        # Half a surrogate pair is a text that JSON allows and no encoding can hold.
        malformed = fault["type"] == "json_invalid" and "hex escape" not in fault["msg"]
        raise Problem(
            "malformed_body" if malformed else "invalid",
            fault["msg"] if malformed else f"{where or 'body'}: {fault['msg']}.",
        ) from None
    if len(images) > most:
        raise too_many(most)
    return [Upload(f"image {place}", from_base64(text)) for place, text in enumerate(images)]
