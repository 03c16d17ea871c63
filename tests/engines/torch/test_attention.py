"""Attention on a CPU: the same numbers whatever is computed beside an image."""

from __future__ import annotations

import pytest
import torch

from pyflux_transfer.engines.torch import attention as module
from pyflux_transfer.engines.torch.attention import attention, steady_attention
from tests.engines.seeded import noise

HEADS = 3


def tokens(count: int = 4) -> torch.Tensor:
    return torch.from_numpy(noise(count, 9, 3 * 24))


def by_definition(x: torch.Tensor) -> torch.Tensor:
    count, places, width = x.shape
    size = width // (3 * HEADS)
    result = torch.zeros(count, places, HEADS * size)
    for image in range(count):
        queries, keys, values = x[image].split(HEADS * size, dim=1)
        for head in range(HEADS):
            of_head = slice(head * size, (head + 1) * size)
            scores = queries[:, of_head] @ keys[:, of_head].T / size**0.5
            result[image, :, of_head] = scores.softmax(1) @ values[:, of_head]
    return result


@pytest.mark.parametrize("compute", [attention, steady_attention])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_it_is_softmax_attention(compute: object, dtype: torch.dtype, close: float) -> None:
    found = compute(tokens().to(dtype), HEADS)  # type: ignore[operator]
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), by_definition(tokens()), rtol=0, atol=close)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_where_a_kernel_does_not_keep_the_bits_images_go_one_by_one(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_keeps_bits", lambda *_: False)
    x = tokens().to(dtype)
    together = steady_attention(x, HEADS)
    for index in range(len(x)):
        alone = steady_attention(x[index : index + 1].clone(), HEADS)
        assert torch.equal(together[index : index + 1], alone)


def test_a_kernel_that_looks_at_its_neighbours_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def crowded(x: torch.Tensor, heads: int) -> torch.Tensor:
        return attention(x, heads) + len(x)

    monkeypatch.setitem(module._KERNELS, torch.float32, crowded)
    module._keeps_bits.cache_clear()
    shape = torch.Size((4, 9, 72))
    assert not module._keeps_bits(shape, HEADS, torch.float32, 1)
    module._keeps_bits.cache_clear()
