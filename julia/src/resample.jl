# Resizing as Pillow does it, to the last bit: antialiased, across and then down, in fixed point with
# eight bits between. After src/libImaging/Resample.c of Pillow (HPND licence), which Python uses.

const PRECISION = 32 - 8 - 2 # bits behind the point: room for a sum beyond 0…255 and for its sign

triangle(x) = max(1 - abs(x), 0.0)

# Keys' cubic convolution with a = −1/2.
function pillow_cubic(x)
    x = abs(x)
    x < 1 && return (1.5x - 2.5) * x * x + 1
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0.0
end

# name => half the width of the filter, in pixels of the smaller image, and the filter
const FILTERS = Dict("bilinear" => (1.0, triangle), "bicubic" => (2.0, pillow_cubic))

"""
For each of `size` pixels that `first` … `last` of `count` pixels become: the pixel where its window
begins, from 0, and the window's weights.
"""
function resampling_windows(count, first::Float32, last::Float32, size, (half, weight))
    scale = Float64(last - first) / size
    stretch = max(scale, 1.0)
    support = half * stretch
    return map(0:(size - 1)) do i
        center = first + (i + 0.5) * scale
        low = max(trunc(Int, center - support + 0.5), 0)
        high = min(trunc(Int, center + support + 0.5), count)
        weights = [weight((x - center + 0.5) / stretch) for x in low:(high - 1)]
        total = foldl(+, weights; init = 0.0)
        (low, Int32[fixed(total == 0 ? w : w / total) for w in weights])
    end
end

fixed(x) = trunc(Int32, x * (1 << PRECISION) + (x < 0 ? -0.5 : 0.5))

level(sum::Int32) = clamp(sum >> PRECISION, 0, 255) % UInt8

const HALF = Int32(1 << (PRECISION - 1))

"""
    resample(image, width, height, box, interpolation)

Resize the `box` (left, top, right, bottom, in pixels) of an H × W × channels image of `UInt8` to
`height` × `width` × channels. `interpolation` is `"bilinear"` or `"bicubic"`.
"""
function resample(image::AbstractArray{UInt8, 3}, width, height, box, interpolation)
    rows, columns, _ = size(image)
    left, top, right, bottom = Float32.(box)
    filter = FILTERS[interpolation]
    across = resampling_windows(columns, left, right, width, filter)
    down = resampling_windows(rows, top, bottom, height, filter)
    needed = (first(down)[1] + 1):(last(down)[1] + length(last(down)[2]))
    return pass_down(pass_across(image, across, needed), down, first(needed) - 1)
end

function pass_across(image, windows, rows)
    out = Array{UInt8}(undef, length(rows), length(windows), size(image, 3))
    sums = Vector{Int32}(undef, length(rows))
    for channel in axes(image, 3), (i, (low, weights)) in enumerate(windows)
        fill!(sums, HALF)
        for (j, weight) in enumerate(weights)
            @inbounds @simd for y in eachindex(sums)
                sums[y] += image[first(rows) - 1 + y, low + j, channel] * weight
            end
        end
        @inbounds @simd for y in eachindex(sums)
            out[y, i, channel] = level(sums[y])
        end
    end
    return out
end

function pass_down(image, windows, skipped)
    out = Array{UInt8}(undef, length(windows), size(image, 2), size(image, 3))
    for channel in axes(image, 3), column in axes(image, 2)
        for (i, (low, weights)) in enumerate(windows)
            sum = HALF
            @inbounds @simd for j in eachindex(weights)
                sum += image[low - skipped + j, column, channel] * weights[j]
            end
            out[i, column, channel] = level(sum)
        end
    end
    return out
end
