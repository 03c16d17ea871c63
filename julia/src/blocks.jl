# Layers that blocks are made of and Flux lacks, or computes otherwise.
#
# Images are (W, H, C, N), tokens (D, T, N), vectors (D, N): mirror images of torchvision's shapes.

# Where the channels of an array lie, and a vector of them laid along it.
channel_axis(x) = ndims(x) == 4 ? 3 : 1
along(v, x) = ndims(x) == 4 ? reshape(v, 1, 1, :) : vec(v)

"LayerNorm over the channels, at each place by itself. (Flux's normalises leading axes.)"
struct ChannelNorm{V}
    weight::V
    bias::V
    eps::Float32
end

ChannelNorm(channels::Integer, eps) = ChannelNorm(
    ones(Float32, channels),
    zeros(Float32, channels),
    Float32(eps),
)

function (norm::ChannelNorm)(x::AbstractArray)
    share = 1.0f0 / length(norm.weight)
    axis = channel_axis(x)
    centred = x .- share .* sum(x; dims = axis)
    spread = sqrt.(share .* sum(abs2, centred; dims = axis) .+ norm.eps)
    return along(norm.weight, x) .* (centred ./ spread) .+ along(norm.bias, x)
end

"A factor for each channel; its array has the mirror image of torchvision's shape."
struct Factor{A}
    value::A
end

(factor::Factor)(x) = along(factor.value, x) .* x

"A learnt array that another layer uses."
struct Learnt{A}
    value::A
end

"A Dense layer over the channels, at each place by itself."
struct Pointwise{D}
    dense::D
end

(point::Pointwise)(x::AbstractArray) = point.dense(x)

function (point::Pointwise)(x::AbstractArray{<:Any, 4})
    w, h, channels, count = size(x)
    y = NNlib.batched_mul(reshape(x, w * h, channels, count), transpose(point.dense.weight))
    return point.dense.σ.(reshape(y, w, h, :, count) .+ reshape(point.dense.bias, 1, 1, :))
end

"An activation, element by element."
struct Activation{F}
    f::F
end

(activation::Activation)(x) = activation.f.(x)

"""
Images as tokens: a learnt one first, then the places row by row, each with its learnt position.
Positions of a grid of `side` × `side` are interpolated for others.
"""
struct Embed{A}
    token::Learnt{A}    # (D, 1, 1)
    position::Learnt{A} # (D, 1 + side², 1)
    side::Int
    offset::Float64
    aligned::Bool
end

function (embed::Embed)(x::AbstractArray{<:Real, 4})
    w, h, channels, count = size(x)
    position = embed.position.value
    grid = interpolated(embed, position[:, 2:end, 1], w, h)
    tokens = permutedims(reshape(x, w * h, channels, count), (2, 1, 3)) .+ grid
    ahead = embed.token.value .+ position[:, 1:1, :]
    return hcat(repeat(ahead, 1, 1, count), tokens)
end

"Positions (D, side²), a place a column, row by row, as those of w × h places."
function interpolated(embed, grid, w, h)
    side = embed.side
    (w, h) == (side, side) && return grid
    across, down = @ignore_derivatives map((w, h)) do count
        matrix = resampling(side, count, embed.offset, embed.aligned)
        copyto!(similar(grid, size(matrix)), matrix)
    end
    channels = size(grid, 1)
    wide = NNlib.batched_mul(reshape(grid, channels, side, side), transpose(across))
    return reshape(reshape(wide, channels * w, side) * transpose(down), channels, w * h)
end

# The same numbers as Python's networks/positions.py.
"The matrix (count, side) that takes `side` places to `count`: bicubic, as PyTorch does it."
function resampling(side, count, offset, aligned)
    matrix = zeros(count, side)
    for place in 0:(count - 1)
        source = aligned ?
            place * ((side - 1) / max(count - 1, 1)) :
            (place + 0.5) * (side / (count + offset)) - 0.5
        below = floor(Int, source)
        for tap in -1:2
            matrix[place + 1, clamp(below + tap, 0, side - 1) + 1] += cubic(abs(
                source - below - tap,
            ))
        end
    end
    return Matrix{Float32}(matrix)
end

# PyTorch's cubic kernel (Keys 1981).
function cubic(d; a = -0.75)
    d <= 1 && return ((a + 2) * d - (a + 3)) * d^2 + 1
    return d < 2 ? ((a * d - 5a) * d + 8a) * d - 4a : 0.0
end

"Softmax attention of queries, keys and values that lie one after another in the channels."
struct Attend
    heads::Int
end

function (attend::Attend)(x::AbstractArray{<:Real, 3})
    width = size(x, 1) ÷ 3
    queries, keys, values = (x[(i * width + 1):((i + 1) * width), :, :] for i in 0:2)
    mixed, _ = NNlib.dot_product_attention(queries, keys, values; nheads = attend.heads)
    return mixed
end

"The first token."
first_token(x) = x[:, 1, :]

"The mean of the tokens behind the first."
rest_mean(x) = dropdims(sum(x[:, 2:end, :]; dims = 2); dims = 2) ./ (size(x, 2) - 1)

# What joins branches. Their order is the tree's, whatever they hold.
plus(xs...) = foldl((x, y) -> x .+ y, xs)
times(xs...) = foldl((x, y) -> x .* y, xs)
beside(xs...) = cat(xs...; dims = Val(channel_axis(first(xs))))

const Ordered = Union{typeof(plus), typeof(times), typeof(beside)}

Flux.@layer ChannelNorm
Flux.@layer Factor
Flux.@layer Learnt
Flux.@layer Pointwise
Flux.@layer Activation
Flux.@layer Embed
