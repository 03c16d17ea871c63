"""The comparison's LitServe part, in a module of its own: LitServe pickles the class."""

import litserve as ls
import numpy as np
from fastapi import Request
from serving_targets import answer, open_model

from pyflux_transfer.data.preprocess import load


class Api(ls.LitAPI):
    def __init__(self, path, **options):
        super().__init__(**options)
        self.path = path

    def setup(self, device):
        del device
        self.model = open_model(self.path)

    def decode_request(self, request: Request):
        return load(request["file"].file.read(), self.model.description.preprocessing)

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, x):
        return answer(self.model, ["image"] * len(x), x)

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return {"predictions": [output]}
