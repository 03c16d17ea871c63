"""The wire models; FastAPI makes the OpenAPI page from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field

State = Literal["starting", "installing", "ready", "stalled", "failed"]


class Label(BaseModel):
    """A class and its probability."""

    label: str = Field(examples=["bee"])
    probability: float = Field(ge=0, le=1, examples=[0.981402])


class ImagePrediction(Label):
    """What one image shows."""

    name: str = Field(description="File name, or the image's place in the request.")
    belonging: float | None = Field(
        None, ge=0, le=1, examples=[0.871],
        description="How much it is like the photos that were learnt; left out where the model "
        "cannot tell.",
    )  # fmt: skip
    sure: bool | None = Field(
        None, description="Whether `belonging` reaches the model's threshold; left out likewise."
    )
    heat_map: str | None = Field(None, description="With `explain`: a small PNG as data.")
    top: list[Label] = Field(description="The most probable labels, the best first.")


class ModelName(BaseModel):
    """Which model answered."""

    id: str = Field(description="Changes when another bundle is loaded.")
    architecture: str
    engine: str


class Predictions(BaseModel):
    """The answer to POST /predict, in the order of the request."""

    predictions: list[ImagePrediction]
    model: ModelName


class ImageList(BaseModel):
    """The JSON form of a request."""

    model_config = ConfigDict(extra="forbid")

    images: Annotated[list[str], FailFast()] = Field(
        min_length=1, description="Image files in base64."
    )


class Threshold(BaseModel):
    """What an image must reach to be sure."""

    threshold: float = Field(ge=0, le=1)
    kept: float = Field(ge=0, le=1, description="Of images of the known classes.")
    photos: int = Field(description="So many, held out, placed it.")


class ModelInfo(ModelName):
    """What is being served."""

    classes: list[str]
    preprocessing: dict[str, Any]
    belonging: Threshold | None = Field(
        None, description="Below which score an image is unsure; null where it cannot be told."
    )
    info: dict[str, Any] = Field(description="Versions, device, metrics at training.")


class Workers(BaseModel):
    """How many worker processes can answer."""

    ready: int
    wanted: int
    restarts: int


class Readiness(BaseModel):
    """Whether requests can be answered, and if not, why."""

    state: State
    reason: str
    workers: Workers


class Liveness(BaseModel):
    """The process is up."""

    state: Literal["up"] = "up"


class ImageFault(BaseModel):
    """Why one image of a request cannot be read."""

    name: str
    reason: str


class Fault(BaseModel):
    """What went wrong and what to do about it."""

    code: str = Field(examples=["bad_image"])
    message: str
    hint: str
    images: list[ImageFault] | None = Field(None, description="Only for `bad_image`.")


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    error: Fault
