# The operations of a rewritten trunk, over plain arrays.
#
# Inside, an activation is a matrix (pixels of all images of a chunk, channels): the images lie side
# by side within a channel, so that small late layers still make large matrix products.

# Numbers of a block of rows that are to stay in the cache, and the rows a product should have.
const BLOCK = 256 * 1024
const ROWS = 1024

# Numbers of a vector. Loops over whole vectors read past the end: buffers are so much longer.
const LANES = 8
const SLACK = 4LANES

"A convolution with everything that follows it."
struct Convolve{F}
    weight::Matrix{Float32} # (kernel's pixels · in ÷ groups, out)
    bias::Vector{Float32}
    kernel::NTuple{2, Int} # across, down
    stride::Int
    same::Bool # TensorFlow's padding
    padding::NTuple{2, Int}
    groups::Int
    activation::F
    from::Int # slots; 0 is the batch of images
    to::Int
    columns::UnitRange{Int} # of the output matrix
    width::Int
    add::Bool # onto what the slot holds: a shortcut
end

Convolve(weight, bias, kernel::Int, stride, same, padding::Int, rest...) = Convolve(
    weight,
    bias,
    (kernel, kernel),
    stride,
    same,
    (padding, padding),
    rest...,
)

"A convolution of each channel by itself."
struct Depthwise{F}
    weight::Array{Float32, 3} # (k, k, channels)
    bias::Vector{Float32}
    kernel::NTuple{2, Int}
    stride::Int
    same::Bool
    padding::NTuple{2, Int}
    activation::F
    from::Int
    to::Int
end

function Depthwise(weight, bias, kernel::Int, stride, same, padding::Int, rest...)
    return Depthwise(weight, bias, (kernel, kernel), stride, same, (padding, padding), rest...)
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

"Mean pooling; the zeros of the padding count."
struct Average
    kernel::Int
    stride::Int
    padding::Int
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

# Slots that a unit's operations may use.
const SLOT_COUNT = 8

Workspace() = Workspace(
    0,
    [Float32[] for _ in 1:SLOT_COUNT],
    fill((0, 0, 0), SLOT_COUNT),
    Float32[],
)

# A plain Array over the buffer is the fastest form. It holds no reference to the buffer: whoever runs
# operations keeps the workspace alive (`GC.@preserve`).
function matrix!(buffer::Vector{Float32}, rows, columns)
    needed = rows * columns + SLACK
    length(buffer) < needed && resize!(buffer, needed)
    return unsafe_wrap(Array, pointer(buffer), (rows, columns))
end

"Put images (W, H, C, N) into slot 1."
function load_images!(ws::Workspace, images, chunk)
    w, h, channels, _ = size(images)
    ws.count = length(chunk)
    ws.sizes[1] = (w, h, channels)
    slot = matrix!(ws.slots[1], w * h * ws.count, channels)
    for (image, n) in enumerate(chunk), c in 1:channels
        to = ((c - 1) * ws.count + image - 1) * w * h + 1
        copyto!(slot, to, images, ((n - 1) * channels + c - 1) * w * h + 1, w * h)
    end
    return nothing
end

"Take images (W, H, C, N) out of slot 1."
function store_images!(images, ws::Workspace, chunk)
    w, h, channels, _ = size(images)
    for (image, n) in enumerate(chunk), c in 1:channels
        from = ((c - 1) * ws.count + image - 1) * w * h + 1
        copyto!(images, ((n - 1) * channels + c - 1) * w * h + 1, ws.slots[1], from, w * h)
    end
    return nothing
end

"Make `slot` the first one."
function bring_forward!(ws::Workspace, slot)
    for list in (ws.slots, ws.sizes)
        list[1], list[slot] = list[slot], list[1]
    end
    return nothing
end

# Output size and padding before the first pixel, along one axis.
function out_length(op, n, axis)
    op.same && return cld(n, op.stride)
    return fld(n + 2 * op.padding[axis] - op.kernel[axis], op.stride) + 1
end
before(op, n, axis) = op.same ? same_padding(n, op.kernel[axis], op.stride) ÷ 2 : op.padding[axis]

out_size(op::Convolve, (w, h, _)) = (out_length(op, w, 1), out_length(op, h, 2), op.width)
out_size(op::Depthwise, (w, h, c)) = (out_length(op, w, 1), out_length(op, h, 2), c)
function out_size(op::Maximum, (w, h, c))
    count(n) = op.ceil ?
        ceil_windows(n, op.kernel, op.stride, op.padding) :
        fld(n + 2op.padding - op.kernel, op.stride) + 1
    return count(w), count(h), c
end

function out_size(op::Average, (w, h, c))
    count(n) = fld(n + 2op.padding - op.kernel, op.stride) + 1
    return count(w), count(h), c
end

# --- convolution as a matrix product ----------------------------------------------------------------

function run!(op::Convolve, ws::Workspace)
    input = ws.sizes[op.from]
    size = out_size(op, input)
    out = matrix!(ws.slots[op.to], size[1] * size[2] * ws.count, op.width)
    ws.sizes[op.to] = size
    plain = op.kernel == (1, 1) && op.stride == 1 && op.groups == 1
    whole = plain ? matrix!(ws.slots[op.from], Base.size(out, 1), input[3]) : out
    depth = Base.size(op.weight, 1)
    lines = max(max(BLOCK ÷ (depth + op.width), ROWS) ÷ size[1], 1)
    for first in 1:lines:(size[2] * ws.count)
        block = first:min(first + lines - 1, size[2] * ws.count)
        rows = ((first - 1) * size[1] + 1):(last(block) * size[1])
        if plain
            multiply!(op, out, rows, op.columns, view(whole, rows, :), op.weight)
        else
            multiply_patches!(op, out, rows, ws, block, size)
        end
        finish!(op.activation, out, rows, op.columns, op.bias)
    end
    return nothing
end

function multiply_patches!(op, out, rows, ws, block, size)
    inner, share = ws.sizes[op.from][3] ÷ op.groups, length(op.columns) ÷ op.groups
    for group in 0:(op.groups - 1)
        patches = matrix!(ws.patches, length(rows), Base.size(op.weight, 1))
        gather!(patches, op, ws, size, block, (group * inner):(group * inner + inner - 1))
        of = (group * share + 1):(group * share + share)
        multiply!(op, out, rows, op.columns[of], patches, view(op.weight, :, of))
    end
    return nothing
end

function multiply!(op, out, rows, columns, patches, weight)
    product!(view(out, rows, columns), patches, weight, op.add ? 1.0f0 : 0.0f0)
    return nothing
end

product!(out, a, b, kept = 0.0f0) = BLAS.gemm!('N', 'N', 1.0f0, a, b, kept, out)

"im2col: a row an output pixel of the lines in `block`, a column a weight of the kernel."
function gather!(patches, op, ws, (wide, high, _), block, channels)
    data, (w, h, _) = ws.slots[op.from], ws.sizes[op.from]
    left, top = before(op, w, 1), before(op, h, 2)
    row = 0
    for channel in channels, ky in 0:(op.kernel[2] - 1), kx in 0:(op.kernel[1] - 1)
        # First and one past the last pixel of a line whose source lies in the image.
        low = clamp(cld(left - kx, op.stride), 0, wide)
        over = clamp(fld(w - 1 + left - kx, op.stride) + 1, low, wide)
        image, y = divrem(first(block) - 1, high)
        for _ in block
            line = y * op.stride + ky - top
            if 0 <= line < h
                start = ((channel * ws.count + image) * h + line) * w + kx - left
                copy_line!(patches, row, data, start, low, over, wide, op.stride)
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
    elseif stride == 2
        @inbounds @simd ivdep for x in low:(high - 1)
            patches[row + x + 1] = data[base + 2x + 1]
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

function run!(op::Union{Depthwise, Maximum, Average}, ws::Workspace)
    data, (w, h, channels) = ws.slots[op.from], ws.sizes[op.from]
    size = out_size(op, (w, h, channels))
    ws.sizes[op.to] = size
    plane = size[1] * size[2]
    out = matrix!(ws.slots[op.to], plane * ws.count, channels)
    for channel in 1:channels, image in 0:(ws.count - 1)
        number = (channel - 1) * ws.count + image
        slide!(op, out, number * plane, size, data, number * w * h, (w, h), channel)
    end
    return nothing
end

padding(op, n, axis) = before(op, n, axis)
padding(op::Union{Average, Maximum}, n, axis) = op.padding

kernel(op) = op.kernel
kernel(op::Union{Average, Maximum}) = (op.kernel, op.kernel)

start_value(op::Depthwise, channel) = op.bias[channel]
start_value(::Average, channel) = 0.0f0
start_value(op::Maximum, channel) = -Inf32

@inline tap(op::Depthwise, kx, ky, channel) = (
    weight = @inbounds op.weight[kx + 1, ky + 1, channel];
    (y, x) -> muladd(weight, x, y)
)
@inline tap(::Average, kx, ky, channel) = (y, x) -> y + x
@inline tap(::Maximum, kx, ky, channel) = (y, x) -> ifelse(x > y, x, y)

finish(op::Depthwise) = op.activation
finish(op::Average) = (share = 1.0f0 / op.kernel^2; x -> share * x)
finish(::Maximum) = identity

"Slide a window over one channel of one image; each offset of the window is one pass."
function slide!(op, out, skipped, (wide, high, _), data, start, (w, h), channel)
    left, top = padding(op, w, 1), padding(op, h, 2)
    across, down = kernel(op)
    value = start_value(op, channel)
    @inbounds for i in (skipped + 1):(skipped + wide * high)
        out[i] = value
    end
    for ky in 0:(down - 1), kx in 0:(across - 1)
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
    elseif stride == 2
        @inbounds @simd ivdep for x in low:(over - 1)
            out[at + x + 1] = step(out[at + x + 1], data[base + 2x + 1])
        end
    else
        @inbounds @simd ivdep for x in low:(over - 1)
            out[at + x + 1] = step(out[at + x + 1], data[base + x * stride + 1])
        end
    end
    return nothing
end
