"""Softmax attention: PyTorch's for training and graphics cards, the quicker of two on a CPU."""

from __future__ import annotations

from functools import cache, partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pyflux_transfer.engines.torch.same import noise
from pyflux_transfer.engines.torch.threads import alone, shared


def attention(x: Tensor, heads: int) -> Tensor:
    """Let queries, keys and values (N, T, 3·D) give (N, T, D)."""
    queries, keys, values = _split(x, heads)
    return _joined(F.scaled_dot_product_attention(queries, keys, values))


def steady_attention(x: Tensor, heads: int) -> Tensor:
    """Do the same on a CPU so that an image's numbers do not depend on what is beside it.

    Tried on noise as convolutions are (same.py); else the images go one by one.
    """
    compute = _KERNELS.get(x.dtype, attention)
    threads = torch.get_num_threads()
    if _keeps_bits(x.shape, heads, x.dtype, threads):
        return compute(x, heads)

    @torch.inference_mode()
    def images() -> Tensor:
        return torch.cat([compute(image[None].clone(), heads) for image in x])

    return alone(images)


def _products(x: Tensor, heads: int) -> Tensor:
    # Some heads a thread: sharing each of the three operations would wait for all threads thrice.
    each = -(-heads // torch.get_num_threads())
    parts = [slice(begin, begin + each) for begin in range(0, heads, each)]
    return torch.cat(shared(partial(_some_heads, x, heads), parts), 2)


def products(x: Tensor, heads: int) -> Tensor:
    """Do the same by three operations, which is faster in bfloat16, its gradients above all."""
    return _mixed(*_split(x, heads))


@torch.inference_mode()
def _some_heads(x: Tensor, heads: int, some: slice) -> Tensor:
    return _mixed(*(each[:, some] for each in _split(x, heads)))


def _mixed(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
    return _joined(scores.softmax(-1) @ values)


# PyTorch's fused attention does not use the bfloat16 products of all processors that have them:
# on an AMD EPYC it takes twice as long as three operations.
_KERNELS = {torch.bfloat16: _products}


def _split(x: Tensor, heads: int) -> tuple[Tensor, ...]:
    count, places, width = x.shape
    return x.reshape(count, places, 3, heads, width // (3 * heads)).permute(2, 0, 3, 1, 4).unbind()


def _joined(mixed: Tensor) -> Tensor:
    return mixed.transpose(1, 2).flatten(2)


@cache
def _keeps_bits(shape: torch.Size, heads: int, dtype: torch.dtype, threads: int) -> bool:
    if shape[0] == threads == 1:
        return True
    compute = _KERNELS.get(dtype, attention)
    image = noise((1, *shape[1:]), 0).to(dtype)
    expected = alone(torch.inference_mode()(partial(compute, image, heads)))
    found = compute(image.expand(shape).clone(), heads)
    return torch.equal(found, expected.expand_as(found))
