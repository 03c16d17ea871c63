"""The peer of a cold start: the few lines of PyTorch that label one photo."""

import sys

import torch
from PIL import Image
from safetensors.torch import load_file

from benchmarks.tutorial_transforms import center_crop, normalised
from tests.engines.reference import REFERENCES

weights, photo = sys.argv[1:]
network = REFERENCES["resnet50"]()
network.fc = torch.nn.Linear(2048, 2)
network.load_state_dict(load_file(weights), strict=False)
image = normalised(center_crop(Image.open(photo).convert("RGB")))
with torch.inference_mode():
    print(network.eval()(image[None]).softmax(1))
