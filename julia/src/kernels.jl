# The operations of a rewritten trunk, over plain arrays.
#
# Inside, an activation is a matrix (pixels of all images of a chunk, channels): the images lie side
# by side within a channel, so that small late layers still make large matrix products.

# Numbers of a block of rows that are to stay in the cache, and the rows a product should have.
const BLOCK = 256 * 1024
const ROWS = 256

"A convolution with everything that follows it."
struct Convolve{F}
    weight::Matrix{Float32} # (kernel² · in ÷ groups, out)
    bias::Vector{Float32}
    kernel::Int
    stride::Int
    same::Bool # TensorFlow's padding
    padding::Int
    groups::Int
    activation::F
    from::Int # slots; 0 is the batch of images
    to::Int
    columns::UnitRange{Int} # of the output matrix
    width::Int
    add::Bool # onto what the slot holds: a shortcut
end

"A convolution of each channel by itself."
struct Depthwise{F}
    weight::Array{Float32, 3} # (k, k, channels)
    bias::Vector{Float32}
    kernel::Int
    stride::Int
    same::Bool
    padding::Int
    activation::F
    from::Int
    to::Int
end

"Max pooling."
struct Maximum
    kernel::Int
    stride::Int
    padding::Int
    ceil::Bool
    from::Int
    to::Int
end

"What one thread works in; its arrays grow once and are used again."
mutable struct Workspace
    count::Int # images of the chunk
    slots::Vector{Vector{Float32}}
    sizes::Vector{NTuple{3, Int}} # width, height, channels of what a slot holds
    patches::Vector{Float32}
end

Workspace() = Workspace(0, [Float32[] for _ in 1:4], fill((0, 0, 0), 4), Float32[])

"Some images of a batch, or what a slot holds: numbers with the strides of channel and image."
struct Source
    data::Vector{Float32}
    start::Int # before the first number
    channel::Int
    image::Int
    size::NTuple{3, Int}
end

function source(ws::Workspace, images::Source, slot)
    slot == 0 && return images
    w, h, _ = ws.sizes[slot]
    return Source(ws.slots[slot], 0, w * h * ws.count, w * h, ws.sizes[slot])
end

function matrix!(buffer::Vector{Float32}, rows, columns)
    length(buffer) < rows * columns && resize!(buffer, rows * columns)
    return unsafe_wrap(Array, pointer(buffer), (rows, columns))
end

# Output size and padding before the first pixel, along one axis.
out_length(op, n) = op.same ? cld(n, op.stride) : (n + 2op.padding - op.kernel) ÷ op.stride + 1
before(op, n) = op.same ? same_padding(n, op.kernel, op.stride) ÷ 2 : op.padding

out_size(op::Convolve, (w, h, _)) = (out_length(op, w), out_length(op, h), op.width)
out_size(op::Depthwise, (w, h, c)) = (out_length(op, w), out_length(op, h), c)
function out_size(op::Maximum, (w, h, c))
    count(n) = op.ceil ?
        ceil_windows(n, op.kernel, op.stride) :
        (n + 2op.padding - op.kernel) ÷ op.stride + 1
    return count(w), count(h), c
end

# --- convolution as a matrix product ----------------------------------------------------------------

function run!(op::Convolve, ws::Workspace, images::Source)
    from = source(ws, images, op.from)
    w, h, channels = from.size
    size = out_size(op, from.size)
    rows = size[1] * size[2] * ws.count
    out = matrix!(ws.slots[op.to], rows, op.width)
    ws.sizes[op.to] = size
    depth, inner = Base.size(op.weight, 1), channels ÷ op.groups
    direct = op.kernel == 1 && op.stride == 1 && op.from != 0 && op.groups == 1
    whole = direct ? matrix!(ws.slots[op.from], rows, channels) : out
    lines = size[2] * ws.count
    each = max(BLOCK ÷ (depth + op.width), ROWS) ÷ size[1]
    for first in 1:max(each, 1):lines
        block = first:min(first + max(each, 1) - 1, lines)
        at = ((first - 1) * size[1] + 1):(last(block) * size[1])
        for group in 1:(op.groups)
            share = length(op.columns) ÷ op.groups
            of = ((group - 1) * share + 1):(group * share)
            patches = if direct
                view(whole, at, :)
            else
                rectangle = matrix!(ws.patches, length(at), depth)
                gather!(rectangle, from, op, size, block, (group - 1) * inner, inner)
                rectangle
            end
            into = view(out, at, op.columns[of])
            BLAS.gemm!(
                'N',
                'N',
                1.0f0,
                patches,
                view(op.weight, :, of),
                op.add ? 1.0f0 : 0.0f0,
                into,
            )
        end
        finish!(op.activation, out, at, op.columns, op.bias)
    end
    return nothing
end

"im2col: a row an output pixel of the lines in `block`, a column a weight of the kernel."
function gather!(patches, from::Source, op, size, block, skipped, inner)
    w, h, _ = from.size
    wide, high, _ = size
    left, top = before(op, w), before(op, h)
    column = 0
    for channel in skipped:(skipped + inner - 1), ky in 0:(op.kernel - 1), kx in 0:(op.kernel - 1)
        column += 1
        low = clamp(cld(left - kx, op.stride), 0, wide) # first and one past the last pixel
        high_x = clamp(fld(w - 1 + left - kx, op.stride) + 1, low, wide) # that lie in the image
        row = (column - 1) * Base.size(patches, 1)
        image, y = divrem(first(block) - 1, high)
        for _ in block
            line = y * op.stride + ky - top
            if 0 <= line < h
                base = from.start + image * from.image + channel * from.channel + line * w
                copy_line!(patches, row, from.data, base + kx - left, low, high_x, wide, op.stride)
            else
                fill_line!(patches, row, 0, wide)
            end
            row += wide
            y += 1
            y == high && ((image, y) = (image + 1, 0))
        end
    end
    return nothing
end

@inline function copy_line!(patches, row, data, base, low, high, wide, stride)
    fill_line!(patches, row, 0, low)
    if stride == 1
        @inbounds @simd ivdep for x in low:(high - 1)
            patches[row + x + 1] = data[base + x + 1]
        end
    else
        @inbounds @simd ivdep for x in low:(high - 1)
            patches[row + x + 1] = data[base + x * stride + 1]
        end
    end
    return fill_line!(patches, row, high, wide)
end

@inline function fill_line!(patches, row, low, high)
    @inbounds for x in low:(high - 1)
        patches[row + x + 1] = 0.0f0
    end
    return nothing
end

function finish!(activation, out, rows, columns, bias)
    for (i, column) in enumerate(columns)
        b = bias[i]
        @inbounds @simd ivdep for row in rows
            out[row, column] = activation(out[row, column] + b)
        end
    end
    return nothing
end

# --- one channel at a time --------------------------------------------------------------------------

function run!(op::Union{Depthwise, Maximum}, ws::Workspace, images::Source)
    from = source(ws, images, op.from)
    size = out_size(op, from.size)
    plane = size[1] * size[2]
    out = matrix!(ws.slots[op.to], plane * ws.count, size[3])
    ws.sizes[op.to] = size
    for channel in 1:size[3], image in 0:(ws.count - 1)
        start = from.start + image * from.image + (channel - 1) * from.channel
        skipped = ((channel - 1) * ws.count + image) * plane
        slide!(op, out, skipped, size, from.data, start, from.size, channel)
    end
    return nothing
end

padding(op::Depthwise, n) = before(op, n)
padding(op::Maximum, n) = op.padding

start_value(op::Depthwise, channel) = op.bias[channel]
start_value(op::Maximum, channel) = -Inf32

@inline tap(op::Depthwise, kx, ky, channel) = (
    weight = @inbounds op.weight[kx + 1, ky + 1, channel];
    (y, x) -> muladd(weight, x, y)
)
@inline tap(::Maximum, kx, ky, channel) = (y, x) -> ifelse(x > y, x, y)

finish(op::Depthwise) = op.activation
finish(::Maximum) = identity

"Slide a window over one channel of one image; each offset of the window is one pass."
function slide!(op, out, skipped, (wide, high, _), data, start, (w, h, _), channel)
    left, top = padding(op, w), padding(op, h)
    value = start_value(op, channel)
    @inbounds for i in (skipped + 1):(skipped + wide * high)
        out[i] = value
    end
    for ky in 0:(op.kernel - 1), kx in 0:(op.kernel - 1)
        low = clamp(cld(left - kx, op.stride), 0, wide)
        over = clamp(fld(w - 1 + left - kx, op.stride) + 1, low, wide)
        step = tap(op, kx, ky, channel)
        for y in 0:(high - 1)
            line = y * op.stride + ky - top
            0 <= line < h || continue
            slide_line!(
                step,
                out,
                skipped + y * wide,
                data,
                start + line * w + kx - left,
                low,
                over,
                op.stride,
            )
        end
    end
    f = finish(op)
    @inbounds @simd ivdep for i in (skipped + 1):(skipped + wide * high)
        out[i] = f(out[i])
    end
    return nothing
end

@inline function slide_line!(step, out, at, data, base, low, over, stride)
    if stride == 1
        @inbounds @simd ivdep for x in low:(over - 1)
            out[at + x + 1] = step(out[at + x + 1], data[base + x + 1])
        end
    else
        @inbounds @simd ivdep for x in low:(over - 1)
            out[at + x + 1] = step(out[at + x + 1], data[base + x * stride + 1])
        end
    end
    return nothing
end
