# Operations of rewritten trees beside convolutions and pooling: at each place by itself, or over all
# places of an image.
#
# Tokens lie in a slot as images of T × 1 places, vectors as images of one place.

place_size(x::AbstractArray{<:Any, 4}) = size(x)[1:3]
place_size(x::AbstractArray{<:Any, 3}) = (size(x, 2), 1, size(x, 1))
place_size(x::AbstractMatrix) = (1, 1, size(x, 1))

"Size of the array of so many `axes` that holds what a slot of this size holds."
function array_size((w, h, channels), axes, count)
    axes == 4 && return (w, h, channels, count)
    return axes == 3 ? (channels, w, count) : (channels, count)
end

"Put tokens (D, T, N) or vectors (D, N) into slot 1."
function load_images!(ws::Workspace, x::Union{AbstractMatrix, AbstractArray{<:Any, 3}}, chunk)
    places, _, channels = ws.sizes[1] = place_size(x)
    ws.count = length(chunk)
    slot = matrix!(ws.slots[1], places * ws.count, channels)
    from = reshape(x, channels, :)
    transpose!(view(slot, :, :), view(from, :, token_rows(chunk, places)))
    return nothing
end

"Take tokens (D, T, N) or vectors (D, N) out of slot 1."
function store_images!(x::Union{AbstractMatrix, AbstractArray{<:Any, 3}}, ws::Workspace, chunk)
    places, _, channels = place_size(x)
    slot = matrix!(ws.slots[1], places * ws.count, channels)
    to = reshape(x, channels, :)
    transpose!(view(to, :, token_rows(chunk, places)), slot)
    return nothing
end

token_rows(chunk, places) = ((first(chunk) - 1) * places + 1):(last(chunk) * places)

"What a slot holds, as a matrix (places of all images, channels)."
function held_in(ws::Workspace, slot)
    w, h, channels = ws.sizes[slot]
    return matrix!(ws.slots[slot], w * h * ws.count, channels)
end

"The matrix of a slot that is to hold images of this size."
function room_in!(ws::Workspace, slot, size)
    ws.sizes[slot] = size
    return held_in(ws, slot)
end

"y = activation(factor · x + shift), channel by channel: a norm, a scale, an activation alone."
struct Affine{F}
    factor::Vector{Float32}
    shift::Vector{Float32}
    activation::F
    from::Int
    to::Int
end

out_size(::Affine, size) = size

function run!(op::Affine, ws::Workspace)
    x = held_in(ws, op.from)
    y = room_in!(ws, op.to, ws.sizes[op.from])
    for channel in axes(x, 2)
        factor, shift = op.factor[channel], op.shift[channel]
        @inbounds @simd ivdep for row in axes(x, 1)
            y[row, channel] = op.activation(muladd(factor, x[row, channel], shift))
        end
    end
    return nothing
end

"LayerNorm over the channels."
struct Normalise
    weight::Vector{Float32}
    bias::Vector{Float32}
    eps::Float32
    from::Int
    to::Int
end

out_size(::Normalise, size) = size

# Rows that are normalised together: their numbers are to stay in the cache between the passes.
const NORM_ROWS = 128

function run!(op::Normalise, ws::Workspace)
    x = held_in(ws, op.from)
    y = room_in!(ws, op.to, ws.sizes[op.from])
    mean, spread = Vector{Float32}(undef, NORM_ROWS), Vector{Float32}(undef, NORM_ROWS)
    for first in 1:NORM_ROWS:size(x, 1)
        normalise_rows!(op, y, x, first - 1, min(NORM_ROWS, size(x, 1) - first + 1), mean, spread)
    end
    return nothing
end

function normalise_rows!(op, y, x, skipped, count, mean, spread)
    share = 1.0f0 / size(x, 2)
    fill!(mean, 0.0f0)
    fill!(spread, 0.0f0)
    for channel in axes(x, 2)
        @inbounds @simd ivdep for i in 1:count
            mean[i] += x[skipped + i, channel]
        end
    end
    mean .*= share
    for channel in axes(x, 2)
        @inbounds @simd ivdep for i in 1:count
            spread[i] += (x[skipped + i, channel] - mean[i])^2
        end
    end
    spread .= 1.0f0 ./ sqrt.(share .* spread .+ op.eps)
    for channel in axes(x, 2)
        weight, bias = op.weight[channel], op.bias[channel]
        @inbounds @simd ivdep for i in 1:count
            y[skipped + i, channel] = muladd(
                (x[skipped + i, channel] - mean[i]) * spread[i],
                weight,
                bias,
            )
        end
    end
    return nothing
end

"The mean of each channel."
struct Mean
    from::Int
    to::Int
end

out_size(::Mean, size) = (1, 1, size[3])

function run!(op::Mean, ws::Workspace)
    x = held_in(ws, op.from)
    y = room_in!(ws, op.to, (1, 1, size(x, 2)))
    mean_rows!(y, x, size(x, 1) ÷ ws.count, 0)
    return nothing
end

"The mean of the rows of each image but the first `skipped` ones."
function mean_rows!(y, x, places, skipped)
    share = 1.0f0 / (places - skipped)
    for channel in axes(x, 2), image in axes(y, 1)
        sum = 0.0f0
        @inbounds @simd for row in ((image - 1) * places + 1 + skipped):(image * places)
            sum += x[row, channel]
        end
        y[image, channel] = share * sum
    end
    return nothing
end

"Join two slots number by number, or weigh the channels of images by one number each."
struct Combine{J, F}
    join::J
    activation::F
    other::Int
    from::Int
    to::Int
end

out_size(::Combine, size) = size

function run!(op::Combine, ws::Workspace)
    x, other = held_in(ws, op.from), held_in(ws, op.other)
    y = room_in!(ws, op.to, ws.sizes[op.from])
    places = size(x, 1) ÷ ws.count
    single = size(other, 1) < size(x, 1)
    for channel in axes(x, 2)
        if single
            for image in 1:ws.count
                weight = other[image, channel]
                @inbounds @simd ivdep for row in ((image - 1) * places + 1):(image * places)
                    y[row, channel] = op.activation(op.join(x[row, channel], weight))
                end
            end
        else
            @inbounds @simd ivdep for row in axes(x, 1)
                y[row, channel] = op.activation(op.join(x[row, channel], other[row, channel]))
            end
        end
    end
    return nothing
end

"Copy a slot into columns of another."
struct Place
    from::Int
    to::Int
    columns::UnitRange{Int}
    width::Int
end

out_size(op::Place, (w, h, _)) = (w, h, op.width)

function run!(op::Place, ws::Workspace)
    w, h, _ = ws.sizes[op.from]
    x = held_in(ws, op.from)
    y = room_in!(ws, op.to, (w, h, op.width))
    copyto!(y, size(y, 1) * (first(op.columns) - 1) + 1, x, 1, length(x))
    return nothing
end

"The first token (skipped = nothing), or the mean of those behind it."
struct Pick
    rest::Bool
    from::Int
    to::Int
end

out_size(::Pick, size) = (1, 1, size[3])

function run!(op::Pick, ws::Workspace)
    x = held_in(ws, op.from)
    y = room_in!(ws, op.to, (1, 1, size(x, 2)))
    places = size(x, 1) ÷ ws.count
    op.rest && return mean_rows!(y, x, places, 1)
    y .= view(x, 1:places:size(x, 1), :)
    return nothing
end

"Images as tokens."
struct Tokens
    embed::Embed{Array{Float32, 3}}
    from::Int
    to::Int
end

out_size(::Tokens, (w, h, channels)) = (1 + w * h, 1, channels)

function run!(op::Tokens, ws::Workspace)
    w, h, channels = ws.sizes[op.from]
    x = held_in(ws, op.from)
    y = room_in!(ws, op.to, (1 + w * h, 1, channels))
    position = op.embed.position.value
    grid = permutedims(interpolated(op.embed, position[:, 2:end, 1], w, h))
    for channel in 1:channels, image in 1:ws.count
        start = (image - 1) * (w * h + 1) + 1
        y[start, channel] = op.embed.token.value[channel] + position[channel]
        @inbounds @simd ivdep for place in 1:(w * h)
            y[start + place, channel] = x[(image - 1) * w * h + place, channel] +
                grid[place, channel]
        end
    end
    return nothing
end

"Attention, image by image and head by head."
struct Attention
    heads::Int
    from::Int
    to::Int
end

out_size(::Attention, (w, h, channels)) = (w, h, channels ÷ 3)

function run!(op::Attention, ws::Workspace)
    w, h, channels = ws.sizes[op.from]
    x = held_in(ws, op.from)
    width = channels ÷ 3
    y = room_in!(ws, op.to, (w, h, width))
    places, share = w * h, width ÷ op.heads
    scores = matrix!(ws.patches, places, places)
    sums = Vector{Float32}(undef, places)
    for image in 1:ws.count, head in 1:op.heads
        rows = ((image - 1) * places + 1):(image * places)
        columns = ((head - 1) * share + 1):(head * share)
        queries, keys, values = (view(x, rows, columns .+ i * width) for i in 0:2)
        BLAS.gemm!('N', 'T', 1.0f0 / sqrt(Float32(share)), queries, keys, 0.0f0, scores)
        exponentiate!(scores, sums)
        mixed = view(y, rows, columns)
        product!(mixed, scores, values)
        for column in axes(mixed, 2)
            @inbounds @simd ivdep for i in 1:places
                mixed[i, column] /= sums[i]
            end
        end
    end
    return nothing
end

"exp of each row less its highest number, and the rows' sums."
function exponentiate!(scores, sums)
    highest = fill(-Inf32, length(sums))
    for column in axes(scores, 2)
        @inbounds @simd ivdep for i in eachindex(sums)
            highest[i] = ifelse(scores[i, column] > highest[i], scores[i, column], highest[i])
        end
    end
    fill!(sums, 0.0f0)
    for column in axes(scores, 2)
        @inbounds @simd ivdep for i in eachindex(sums)
            scores[i, column] = fast_exp(scores[i, column] - highest[i])
            sums[i] += scores[i, column]
        end
    end
    return nothing
end

# --- activations that a loop computes in vectors ------------------------------------------------------

# 2ⁿ · eʳ with |r| ≤ log(2) / 2, as Cephes has it (Moshier 1989).
@inline function fast_exp(x::Float32)
    x = clamped(x, -87.0f0, 88.0f0)
    n = (x * 1.442695f0 + ROUNDING) - ROUNDING
    r = muladd(n, 2.1219444f-4, muladd(n, -0.69335938f0, x))
    y = muladd(evalpoly(r, EXPONENTIAL), r * r, r) + 1.0f0
    return y * reinterpret(Float32, (unsafe_trunc(Int32, n) + Int32(127)) << 23)
end

const ROUNDING = 12582912.0f0 # 1.5 · 2²³: what is added to it loses its fraction
const EXPONENTIAL = (
    5.0000001201f-1,
    1.6666665459f-1,
    4.1665795894f-2,
    8.3334519073f-3,
    1.3981999507f-3,
    1.98756915f-4,
)

@inline clamped(x, low, high) = ifelse(x < low, low, ifelse(x > high, high, x))
@inline fast_sigmoid(x::Float32) = 1.0f0 / (1.0f0 + fast_exp(-x))
@inline fast_silu(x::Float32) = x / (1.0f0 + fast_exp(-x))
@inline fast_gelu(x::Float32) = 0.5f0 * x * (1.0f0 + fast_erf(x * 0.70710677f0))

# A rational function as Eigen and XLA have it, right to a few units in the last place.
@inline function fast_erf(x::Float32)
    x = clamped(x, -3.8f0, 3.8f0)
    s = x * x
    return x * evalpoly(s, ERF_ABOVE) / evalpoly(s, ERF_BELOW)
end

const ERF_ABOVE = (
    -1.60960333262415f-2,
    -2.95459980854025f-3,
    -7.34990630326855f-4,
    -5.69250639462346f-5,
    -2.10102402082508f-6,
    2.77068142495902f-8,
    -2.72614225801306f-10,
)
const ERF_BELOW = (
    -1.42647390514189f-2,
    -7.37332916720468f-3,
    -1.68282697438203f-3,
    -2.13374055278905f-4,
    -1.45660718464996f-5,
)

const FAST = Dict{Any, Any}(swish => fast_silu, sigmoid => fast_sigmoid, gelu => fast_gelu)

in_vectors(activation) = get(FAST, activation, activation)
