"""The comparison's plain part: what one writes first. FastAPI reads its types when it is called."""

import threading

from fastapi import FastAPI, UploadFile
from serving_targets import answer, open_model

from pyflux_transfer.data.preprocess import load


def make_app(path: str) -> FastAPI:
    app, model, turn = FastAPI(), open_model(path), threading.Lock()

    @app.post("/predict")
    def predict(file: UploadFile):
        image = load(file.file.read(), model.description.preprocessing)
        with turn:  # an engine is used by one thread at a time
            return {"predictions": answer(model, ["image"], image[None])}

    return app
