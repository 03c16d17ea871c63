# 3×3 convolutions of stride 1 by Winograd's F(4×4, 3×3) (Lavin & Gray 2015): a tile of 4 × 4 pixels
# takes 36 multiplications a channel instead of 144. Rounding costs it one decimal.
#
# Inner loops run over whole vectors: what they write past a line of tiles, the next line overwrites.

"A 3×3 convolution of stride 1 and padding 1, and its weight for tiles."
struct Winograd{F}
    plain::Convolve{F}
    weight::Array{Float32, 3} # (in, out, 36)
end

Winograd(plain::Convolve) = Winograd(plain, winograd_weight(plain.weight))

# Tiles that a product should have, those below which im2col is faster, and numbers of a vector.
const TILES = 112
const FEW = 16
const LANES = 8

const KERNEL_TRANSFORM = [1/4 0 0; -1/6 -1/6 -1/6; -1/6 1/6 -1/6; 1/24 1/12 1/6; 1/24 -1/12 1/6; 0 0 1]

@inline function transform_input(a, b, c, d, e, f)
    p, q, r, s = e - 4c, d - 4b, e - c, 2 * (d - b)
    return 4a - 5c + e, p + q, p - q, r + s, r - s, 4b - 5d + f
end

@inline function transform_output(a, b, c, d, e, f)
    p, q, r, s = b + c, b - c, d + e, d - e
    return a + p + r, q + 2s, p + 4r, q + 8s + f
end

"Transform a folded 3×3 weight (9 · in, out), as `fold` returns it."
function winograd_weight(weight)
    inner, outer = size(weight, 1) ÷ 9, size(weight, 2)
    kernels = reshape(weight, 3, 3, inner, outer)
    result = Array{Float32}(undef, inner, outer, 36)
    for o in 1:outer, i in 1:inner
        result[i, o, :] = vec(KERNEL_TRANSFORM * kernels[:, :, i, o] * KERNEL_TRANSFORM')
    end
    return result
end

out_size(op::Winograd, size) = out_size(op.plain, size)

function run!(op::Winograd, ws::Workspace)
    w, h, inner = ws.sizes[op.from]
    outer = length(op.columns)
    across, lines = cld(w, 4), cld(h, 4) * ws.count
    across * lines < FEW && return run!(op.plain, ws)
    ws.sizes[op.to] = (w, h, op.width)
    out = matrix!(ws.slots[op.to], w * h * ws.count, op.width)
    step = max(max(BLOCK ÷ (36 * (inner + outer)), TILES) ÷ across, 1)
    for first in 1:step:lines
        block = first:min(first + step - 1, lines)
        tiles = length(block) * across
        spread, products, rest = winograd_buffers!(ws, tiles, inner, outer)
        spread_tiles!(spread, rest, ws.slots[op.from], (w, h), ws.count, block)
        for k in 1:36
            multiply_tiles!(products, spread, op.weight, 1:tiles, k)
        end
        collect_tiles!(op, out, products, rest, (w, h), block)
    end
    return nothing
end
