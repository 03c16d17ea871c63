# 3×3 convolutions of stride 1 by Winograd's F(4×4, 3×3) (Lavin & Gray 2015): a tile of 4 × 4 pixels
# takes 36 multiplications a channel instead of 144, and loses about one decimal of precision.
#
# The inner loops run over whole vectors: what they write past a line of tiles, the next line
# overwrites.

"A 3×3 convolution of stride 1 and padding 1, with its weight for tiles."
struct Winograd{F}
    plain::Convolve{F}
    weight::Array{Float32, 3} # (in, out, 36)
    from::Int
    to::Int
end

Winograd(plain::Convolve) = Winograd(plain, winograd_weight(plain.weight), plain.from, plain.to)

# Tiles that a product should have, and tiles of a chunk below which im2col is faster.
const TILES = 112
const FEW = 16

# Multiplications up to which OpenBLAS reads matrices as they lie (AVX-512). Packing them does not
# pay here: a weight of many channels meets but a few tiles.
const UNPACKED = 10^6

# What a line of a kernel, of an input tile and of a product goes through.
@inline function transform_kernel(a, b, c)
    p, q = (a + c) / 6, a / 24 + c / 6
    return a / 4, -p - b / 6, b / 6 - p, q + b / 12, q - b / 12, c
end

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
    result = Array{Float32}(undef, inner, outer, 36)
    in_parts(outer, part_of(outer, 36inner)) do part, _
        for o in part, i in 1:inner
            taps = ntuple(tap -> Float64(@inbounds weight[9 * (i - 1) + tap, o]), Val(9))
            lines = ntuple(y -> transform_kernel(taps[3y - 2], taps[3y - 1], taps[3y]), Val(3))
            for x in 1:6
                column = transform_kernel(lines[1][x], lines[2][x], lines[3][x])
                for y in 1:6
                    @inbounds result[i, o, x + 6 * (y - 1)] = column[y]
                end
            end
        end
    end
    return result
end

out_size(op::Winograd, size) = out_size(op.plain, size)

function run!(op::Winograd, ws::Workspace)
    w, h, inner = ws.sizes[op.from]
    outer = size(op.weight, 2)
    across, lines = cld(w, 4), cld(h, 4) * ws.count
    across * lines < FEW && return run!(op.plain, ws)
    ws.sizes[op.to] = out_size(op, (w, h, inner))
    out = matrix!(ws.slots[op.to], w * h * ws.count, op.plain.width)
    step = max(max(BLOCK ÷ (36 * (inner + outer)), TILES) ÷ across, 1)
    for first in 1:step:lines
        block = first:min(first + step - 1, lines)
        spread, products, half, pixels = tile_buffers!(ws, length(block) * across, inner, outer)
        spread_tiles!(spread, half, ws.slots[op.from], (w, h), ws.count, block)
        multiply_tiles!(products, spread, op.weight, length(block) * across)
        collect_tiles!(op.plain, out, products, half, pixels, (w, h), block)
    end
    return nothing
end

"In the space for patches: tiles in, tiles out, one channel of them half transformed, its pixels."
function tile_buffers!(ws, tiles, inner, outer)
    rows = tiles + LANES
    sizes = ((rows, inner, 36), (rows, outer, 36), (rows, 24), (16tiles + SLACK,))
    starts = cumsum([1; collect(prod.(sizes))])
    length(ws.patches) < last(starts) && resize!(ws.patches, last(starts))
    return ntuple(i -> unsafe_wrap(Array, pointer(ws.patches, starts[i]), sizes[i]), 4)
end

function multiply_tiles!(products, spread, weight, tiles)
    inner, outer, count = size(weight)
    share = max(UNPACKED ÷ (16 * tiles * inner), 1) * 16
    for k in 1:count, first in 1:share:outer
        columns = first:min(first + share - 1, outer)
        product!(
            view(products, 1:tiles, columns, k),
            view(spread, 1:tiles, :, k),
            view(weight, :, columns, k),
        )
    end
    return nothing
end

"Transform the input: a line of tiles reads six lines of pixels, first down, then across."
function spread_tiles!(spread, half, data, (w, h), count, block)
    across, down = cld(w, 4), cld(h, 4)
    fill!(half, 0.0f0)
    for channel in axes(spread, 2)
        skipped = 0
        for line in block
            image, y = divrem(line - 1, down)
            plane = ((channel - 1) * count + image) * w * h
            spread_down!(half, data, plane, (w, h), 4y - 1)
            spread_across!(spread, skipped, channel, half, across)
            skipped += across
        end
    end
    return nothing
end

# Row t + 1 of `half` receives the four columns of pixels of tile t, six numbers each; the rows
# before the first tile and behind the last pixel are zeros.
function spread_down!(half, data, plane, (w, h), y)
    # A line outside the image is read from inside and weighed by zero.
    weights = ntuple(i -> Float32(0 <= y + i - 1 < h), 6)
    starts = ntuple(i -> plane + clamp(y + i - 1, 0, h - 1) * w, 6)
    for from in 0:LANES:(cld(w, 4) - 1), p in 1:4
        @inbounds @simd ivdep for lane in 1:LANES
            t = from + lane
            x = 4 * (t - 1) + p
            a, b, c, d, e, f = transform_input(
                weights[1] * data[starts[1] + x],
                weights[2] * data[starts[2] + x],
                weights[3] * data[starts[3] + x],
                weights[4] * data[starts[4] + x],
                weights[5] * data[starts[5] + x],
                weights[6] * data[starts[6] + x],
            )
            half[t + 1, 6p - 5] = a
            half[t + 1, 6p - 4] = b
            half[t + 1, 6p - 3] = c
            half[t + 1, 6p - 2] = d
            half[t + 1, 6p - 1] = e
            half[t + 1, 6p] = f
        end
    end
    @inbounds for x in w:(4 * cld(w, 4)), r in 1:6
        half[x ÷ 4 + 2, 6 * (x % 4) + r] = 0.0f0
    end
    return nothing
end

function spread_across!(spread, skipped, channel, half, across)
    for r in 1:6, from in 0:LANES:(across - 1)
        @inbounds @simd ivdep for lane in 1:LANES
            t = from + lane
            a, b, c, d, e, f = transform_input(
                half[t, 18 + r],
                half[t + 1, r],
                half[t + 1, 6 + r],
                half[t + 1, 12 + r],
                half[t + 1, 18 + r],
                half[t + 2, r],
            )
            spread[skipped + t, channel, 6r - 5] = a
            spread[skipped + t, channel, 6r - 4] = b
            spread[skipped + t, channel, 6r - 3] = c
            spread[skipped + t, channel, 6r - 2] = d
            spread[skipped + t, channel, 6r - 1] = e
            spread[skipped + t, channel, 6r] = f
        end
    end
    return nothing
end

"Transform the products back, first down, then across, and finish the pixels."
function collect_tiles!(op, out, products, half, pixels, (w, h), block)
    image, y = divrem(first(block) - 1, cld(h, 4))
    skipped = (image * h + 4y) * w
    for (i, column) in enumerate(op.columns)
        collect_down!(half, products, i, length(block) * cld(w, 4))
        count = collect_across!(pixels, half, (w, h), block)
        finish_pixels!(op, view(out, (skipped + 1):(skipped + count), column), pixels, op.bias[i])
    end
    return nothing
end

function collect_down!(half, products, channel, tiles)
    for k in 1:6, from in 0:LANES:(tiles - 1)
        @inbounds @simd ivdep for lane in 1:LANES
            t = from + lane
            a, b, c, d = transform_output(
                products[t, channel, k],
                products[t, channel, k + 6],
                products[t, channel, k + 12],
                products[t, channel, k + 18],
                products[t, channel, k + 24],
                products[t, channel, k + 30],
            )
            half[t, k] = a
            half[t, k + 6] = b
            half[t, k + 12] = c
            half[t, k + 18] = d
        end
    end
    return nothing
end

# The number of pixels; lines below the image are left out.
function collect_across!(pixels, half, (w, h), block)
    across, down = cld(w, 4), cld(h, 4)
    skipped, at = 0, 0
    for line in block
        for r in 1:min(4, h - 4 * ((line - 1) % down))
            for from in 0:LANES:(across - 1)
                @inbounds @simd ivdep for lane in 1:LANES
                    t = from + lane
                    a, b, c, d = transform_output(
                        half[skipped + t, 6r - 5],
                        half[skipped + t, 6r - 4],
                        half[skipped + t, 6r - 3],
                        half[skipped + t, 6r - 2],
                        half[skipped + t, 6r - 1],
                        half[skipped + t, 6r],
                    )
                    pixels[at + 4t - 3] = a
                    pixels[at + 4t - 2] = b
                    pixels[at + 4t - 1] = c
                    pixels[at + 4t] = d
                end
            end
            at += w
        end
        skipped += across
    end
    return at
end

function finish_pixels!(op, out, pixels, bias)
    if op.add
        @inbounds @simd ivdep for i in eachindex(out)
            out[i] = op.activation(out[i] + pixels[i] + bias)
        end
    else
        @inbounds @simd ivdep for i in eachindex(out)
            out[i] = op.activation(pixels[i] + bias)
        end
    end
    return nothing
end
