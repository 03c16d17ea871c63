# Convolutions of a training step as matrix products over planes. Patches (im2col) are made a block at a
# time, for each thread its own, and made again for the weight's gradient: kept, they would take nine
# times the memory of the images.

# Rows that a product should have at least, and the numbers of a block of patches.
const PRODUCT_ROWS = 512
const PATCHES = 4BLOCK

"How a window slides over planes."
struct Sliding
    kernel::NTuple{2, Int}
    stride::NTuple{2, Int}
    dilation::NTuple{2, Int}
    before::NTuple{2, Int} # padding left and above
    from::NTuple{2, Int}   # width, height
    to::NTuple{2, Int}
end

function Sliding(conv::Conv, x::Planes)
    kernel, from = size(conv.weight)[1:2], (x.w, x.h)
    left, right, above, below = conv.pad isa NTuple{4, Int} ?
        conv.pad :
        (conv.pad[1], conv.pad[1], conv.pad[2], conv.pad[2])
    around = (left + right, above + below)
    to = ntuple(2) do axis
        reach = (kernel[axis] - 1) * conv.dilation[axis] + 1
        fld(from[axis] + around[axis] - reach, conv.stride[axis]) + 1
    end
    return Sliding(kernel, conv.stride, conv.dilation, (left, above), from, to)
end

taps(g::Sliding) = prod(g.kernel)
places(g::Sliding) = prod(g.to)
plain(g::Sliding) = taps(g) == 1 && g.stride == (1, 1) && g.before == (0, 0) && g.from == g.to

# Where in the input the window's first place lies, for a tap. Flux turns the kernel round.
offset(g::Sliding, tap, axis) = (g.kernel[axis] - 1 - tap) * g.dilation[axis] - g.before[axis]

"The places along a line whose source, by this offset, lies in the image: from `low` up to `over`."
function reaching(g::Sliding, shift, axis)
    low = clamp(cld(-shift, g.stride[axis]), 0, g.to[axis])
    return low, clamp(fld(g.from[axis] - 1 - shift, g.stride[axis]) + 1, low, g.to[axis])
end

"Call `work(column, row, line, low, over, start)` for each tap and line; `line` is 0 outside the image."
function each_line(work::F, g::Sliding, lines, channels, count) where {F}
    (w, h), (wide, high) = g.from, g.to
    column = 0
    for channel in channels, j in 0:(g.kernel[2] - 1), i in 0:(g.kernel[1] - 1)
        column += 1
        across, down = offset(g, i, 1), offset(g, j, 2)
        low, over = reaching(g, across, 1)
        image, y = divrem(first(lines) - 1, high)
        row = 0
        for _ in lines
            line = y * g.stride[2] + down
            inside = 0 <= line < h
            start = (((channel - 1) * count + image) * h + line) * w + across
            work(column, row, inside, low, over, start)
            row += wide
            y += 1
            y == high && ((image, y) = (image + 1, 0))
        end
    end
    return nothing
end

"im2col: a row an output place of the lines, a column a tap of the channels."
function gather!(patches::Matrix{Float32}, g::Sliding, x, lines, channels, count)
    wide, rows, stride = g.to[1], size(patches, 1), g.stride[1]
    each_line(g, lines, channels, count) do column, row, inside, low, over, start
        at = (column - 1) * rows + row
        inside || return fill_line!(patches, at, 0, wide)
        return copy_line!(patches, at, x, start, low, over, wide, stride)
    end
    return patches
end

"The gradient of `gather!`: add patches to where they were taken."
function scatter!(dx, patches::Matrix{Float32}, g::Sliding, lines, channels, count)
    rows, stride = size(patches, 1), g.stride[1]
    each_line(g, lines, channels, count) do column, row, inside, low, over, start
        at = (column - 1) * rows + row
        inside || return nothing
        if stride == 1
            @inbounds @simd ivdep for x in low:(over - 1)
                dx[start + x + 1] += patches[at + x + 1]
            end
        else
            @inbounds @simd ivdep for x in low:(over - 1)
                dx[start + x * stride + 1] += patches[at + x + 1]
            end
        end
        return nothing
    end
    return nothing
end

# --- the layer --------------------------------------------------------------------------------------------

function forward(room, conv::Conv, x::Planes)
    conv.σ isa Activated && conv.weight isa Array{Float32} ||
        return forward_by_zygote(room, conv, x)
    size(conv.weight, 3) * conv.groups == channels_in(x) ||
        throw(DimensionMismatch(
            "a convolution takes $(size(conv.weight, 3) * conv.groups) channels, got $(channels_in(x))",
        ))
    g = Sliding(conv, x)
    all(>(0), g.to) || throw(DimensionMismatch("an image of $(g.from) is too small"))
    op = is_depthwise(conv) ? EachChannel(conv, g) : Products(conv, g)
    z = Planes(room!(room, places(g) * images_in(x), size(conv.weight, 4)), g.to...)
    convolve!(room, op, z, x)
    conv.bias isa AbstractVector && add_bias!(z, conv.bias)
    y, back = conv.σ === identity ? (z, nothing) : forward(room, conv.σ, z)
    function inner(dy, wanted)
        dz = back === nothing ? dy : first(back(dy, true))
        dw = room!(room, size(conv.weight)...)
        weight_gradient!(room, op, dw, x, dz)
        db = conv.bias isa AbstractVector ?
            column_sums!(room!(room, length(conv.bias)), dz) :
            nothing
        dx = wanted ? input_gradient!(room, op, room!(room, x), dz) : nothing
        dz === dy || give_back!(room, dz)
        return dx, mirror_of(conv; weight = dw, bias = db)
    end
    return y, inner
end

function add_bias!(z, bias)
    rows = size(z.data, 1)
    in_parts(length(bias), part_of(length(bias), rows)) do part, _
        for c in part
            b = bias[c]
            @inbounds @simd ivdep for i in 1:rows
                z.data[i, c] += b
            end
        end
    end
    return z
end

function column_sums!(sums, z)
    rows = size(z.data, 1)
    in_parts(length(sums), part_of(length(sums), rows)) do part, _
        for c in part
            sum = 0.0f0
            @inbounds @simd for i in 1:rows
                sum += z.data[i, c]
            end
            sums[c] = sum
        end
    end
    return sums
end

"A convolution by matrix products, its weight as a matrix (taps · in ÷ groups, out)."
struct Products
    weight::Matrix{Float32}
    groups::Int
    sliding::Sliding
end

Products(conv::Conv, g) = Products(reshape(conv.weight, :, size(conv.weight, 4)), conv.groups, g)

# Input channels, rows and columns of the weight that belong together; blocks of so many channels
# where there is but one group.
function channel_blocks(op::Products, each)
    inner, share = size(op.weight, 1) ÷ taps(op.sliding), size(op.weight, 2) ÷ op.groups
    return [
        (
            ((group * inner) .+ block),
            ((first(block) - 1) * taps(op.sliding) + 1):(last(block) * taps(op.sliding)),
            (group * share + 1):((group + 1) * share),
        )
        for group in 0:(op.groups - 1)
        for block in (op.groups > 1 ? [1:inner] : Iterators.partition(1:inner, each))
    ]
end

"Parts of 1:count, two for each thread, of at least `least`."
thread_parts(count, least = 1) = max(cld(count, 2Threads.nthreads()), least)

scratch(room, numbers) = [room!(room, numbers) for _ in 1:Threads.nthreads()]

# A matrix in the first numbers of a buffer.
shaped(buffer, rows, columns) = unsafe_wrap(Array, pointer(buffer), (rows, columns))

function convolve!(room, op::Products, z, x)
    g, weight, count = op.sliding, op.weight, images_in(x)
    rows, depth = size(z.data, 1), size(weight, 1)
    if plain(g) && op.groups == 1
        in_tiles(rows, size(weight, 2)) do part, columns
            product!(view(z.data, part, columns), view(x.data, part, :), view(weight, :, columns))
        end
        return z
    end
    wide, lines = g.to[1], g.to[2] * count
    each = clamp(max(BLOCK ÷ depth, PRODUCT_ROWS) ÷ wide, 1, lines)
    buffers = scratch(room, each * wide * depth)
    # Few rows: the threads share the columns instead.
    shares = each < lines || op.groups > 1 ? 1 : Threads.nthreads()
    in_parts(cld(lines, each) * shares, 1) do part, worker
        index, share = divrem(first(part) - 1, shares)
        block = (index * each + 1):min((index + 1) * each, lines)
        at = ((first(block) - 1) * wide + 1):(last(block) * wide)
        for (channels, within, columns) in channel_blocks(op, typemax(Int))
            mine = columns[share_of(length(columns), share, shares)]
            patches = shaped(buffers[worker], length(at), length(within))
            gather!(patches, g, x.data, block, channels, count)
            product!(view(z.data, at, mine), patches, view(weight, within, mine))
        end
    end
    foreach(buffer -> give_back!(room, buffer), buffers)
    return z
end

share_of(count, share, shares) = (share * count ÷ shares + 1):((share + 1) * count ÷ shares)

"Call `work(rows, columns)` for tiles of a product, by rows where there are enough."
function in_tiles(work, rows, columns)
    rows >= 2PRODUCT_ROWS ||
        return in_parts((part, _) -> work(1:rows, part), columns, thread_parts(columns, 32))
    return in_parts((part, _) -> work(part, 1:columns), rows, thread_parts(rows, PRODUCT_ROWS))
end

function input_gradient!(room, op::Products, dx, dz)
    g, weight, count = op.sliding, op.weight, images_in(dx)
    if plain(g) && op.groups == 1
        in_tiles(size(dz.data, 1), size(weight, 1)) do part, columns
            BLAS.gemm!(
                'N',
                'T',
                1.0f0,
                view(dz.data, part, :),
                view(weight, columns, :),
                0.0f0,
                view(dx.data, part, columns),
            )
        end
        return dx
    end
    # Whole images, of which no other thread adds to the same channels.
    each = clamp(cld(PRODUCT_ROWS, places(g)), 1, count)
    rows = each * places(g)
    inner = size(weight, 1) ÷ taps(g)
    width = clamp(2BLOCK ÷ (rows * taps(g)), 1, cld(inner, Threads.nthreads()))
    blocks = channel_blocks(op, width)
    buffers = scratch(room, rows * maximum(block -> length(block[2]), blocks))
    groups = cld(count, each)
    in_parts(length(blocks) * groups, 1) do part, worker
        index, which = divrem(first(part) - 1, length(blocks))
        some = (index * each + 1):min((index + 1) * each, count)
        channels, within, columns = blocks[which + 1]
        at = ((first(some) - 1) * places(g) + 1):(last(some) * places(g))
        patches = shaped(buffers[worker], length(at), length(within))
        BLAS.gemm!(
            'N',
            'T',
            1.0f0,
            view(dz.data, at, columns),
            view(weight, within, columns),
            0.0f0,
            patches,
        )
        clear_images!(dx, some, channels)
        lines = ((first(some) - 1) * g.to[2] + 1):(last(some) * g.to[2])
        scatter!(dx.data, patches, g, lines, channels, count)
    end
    foreach(buffer -> give_back!(room, buffer), buffers)
    return dx
end

function clear_images!(x, some, channels)
    size = x.w * x.h
    for c in channels
        @inbounds for i in ((first(some) - 1) * size + 1):(last(some) * size)
            x.data[i, c] = 0.0f0
        end
    end
    return nothing
end

function weight_gradient!(room, op::Products, dw, x, dz)
    g, count = op.sliding, images_in(x)
    matrix, inner = reshape(dw, size(op.weight)), size(op.weight, 1) ÷ taps(g)
    if plain(g) && op.groups == 1
        in_blocks(inner, size(matrix, 2)) do part, columns
            BLAS.gemm!(
                'T',
                'N',
                1.0f0,
                view(x.data, :, part),
                view(dz.data, :, columns),
                0.0f0,
                view(matrix, part, columns),
            )
        end
        return dw
    end
    wide, lines = g.to[1], g.to[2] * count
    each = clamp(4PRODUCT_ROWS ÷ wide, 1, lines)
    width = clamp(PATCHES ÷ (each * wide * taps(g)), 1, thread_parts(inner))
    blocks = channel_blocks(op, width)
    buffers = scratch(room, each * wide * maximum(block -> length(block[2]), blocks))
    in_parts(length(blocks), 1) do part, worker
        channels, within, columns = blocks[first(part)]
        for start in 1:each:lines
            block = start:min(start + each - 1, lines)
            at = ((start - 1) * wide + 1):(last(block) * wide)
            patches = shaped(buffers[worker], length(at), length(within))
            gather!(patches, g, x.data, block, channels, count)
            BLAS.gemm!(
                'T',
                'N',
                1.0f0,
                patches,
                view(dz.data, at, columns),
                start == 1 ? 0.0f0 : 1.0f0,
                view(matrix, within, columns),
            )
        end
    end
    foreach(buffer -> give_back!(room, buffer), buffers)
    return dw
end

"Call `work(rows, columns)` for blocks of a small product, along its longer side."
function in_blocks(work, rows, columns)
    rows >= columns &&
        return in_parts((part, _) -> work(part, 1:columns), rows, thread_parts(rows, 64))
    return in_parts((part, _) -> work(1:rows, part), columns, thread_parts(columns, 64))
end
