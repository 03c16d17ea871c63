# A convolution of each channel by itself. A plane is copied into a frame of zeros whose columns are
# sorted by what they leave when divided by the stride: every tap then reads whole vectors.

is_depthwise(conv::Conv) = size(conv.weight, 3) == 1 &&
    conv.groups == size(conv.weight, 4) > 1 &&
    conv.stride[1] == conv.stride[2]

"A depthwise convolution, its weight as a matrix (taps, channels)."
struct EachChannel
    weight::Matrix{Float32}
    sliding::Sliding
end

EachChannel(conv::Conv, g) = EachChannel(reshape(conv.weight, :, size(conv.weight, 4)), g)

"The frame of a plane: `columns` of each remainder, `pitch` numbers a line, `lines`."
struct Frame
    stride::Int
    columns::Int
    pitch::Int
    lines::Int
    before::NTuple{2, Int}
end

function Frame(g::Sliding)
    reach(axis) = (g.to[axis] - 1) * g.stride[axis] + (g.kernel[axis] - 1) * g.dilation[axis] + 1
    columns = cld(reach(1), g.stride[1])
    return Frame(g.stride[1], columns, columns * g.stride[1], reach(2), g.before)
end

# Loops over whole vectors read past the end.
frame_length(f::Frame) = f.pitch * (f.lines + f.stride) + SLACK

"Copy a plane of width × height, which begins behind `start`, into its frame."
function frame!(out, f::Frame, data, start, (w, h), across = 1)
    fill!(out, 0.0f0)
    left, above = f.before
    for line in 0:(h - 1)
        row = line * across + above
        0 <= row < f.lines || continue
        at, from = row * f.pitch, start + line * w
        if f.stride == 1 && across == 1 && left >= 0 && left + w <= f.columns
            @inbounds @simd ivdep for x in 1:w
                out[at + left + x] = data[from + x]
            end
        else
            for x in 0:(w - 1)
                place = x * across + left
                0 <= place < f.pitch || continue
                column, remainder = divrem(place, f.stride)
                @inbounds out[at + remainder * f.columns + column + 1] = data[from + x + 1]
            end
        end
    end
    return out
end

# Where in the frame each tap begins.
function starts(f::Frame, g::Sliding)
    return [
        let x = (g.kernel[1] - 1 - i) * g.dilation[1], y = (g.kernel[2] - 1 - j) * g.dilation[2]
            y * f.pitch + (x % f.stride) * f.columns + x ÷ f.stride
        end
        for j in 0:(g.kernel[2] - 1)
        for i in 0:(g.kernel[1] - 1)
    ]
end

"The sum of all taps, written out: the loop around it runs over vectors."
@generated function tap_sum(weight::NTuple{N, Float32}, data, starts::NTuple{N, Int}, i) where {N}
    sum = :(weight[1] * data[starts[1] + i])
    for n in 2:N
        sum = :(muladd(weight[$n], data[starts[$n] + i], $sum))
    end
    return :($(Expr(:meta, :inline)); @inbounds $sum)
end

"Slide over one frame: lines of `wide`, `step` apart in the frame, into lines of `wide` behind `skipped`."
function slide_frame!(out, skipped, (wide, high), frame, step, weight, starts)
    for y in 0:(high - 1)
        at, from = skipped + y * wide, y * step
        @inbounds @simd ivdep for x in 1:wide
            out[at + x] = tap_sum(weight, frame, starts, from + x)
        end
    end
    return nothing
end

# Kernels of the usual sizes are compiled for their count of taps.
counted(f, taps) = taps == 9 ?
    f(Val(9)) :
    taps == 25 ? f(Val(25)) : taps == 49 ? f(Val(49)) : f(Val(taps))

convolve!(room, op::EachChannel, z, x) = counted(taps(op.sliding)) do n
    slide_frames!(room, n, z, x, Frame(op.sliding), op.sliding, op.weight, 1)
end

function slide_frames!(room, ::Val{N}, z, x, f, g, weight, across) where {N}
    begins = NTuple{N, Int}(starts(f, g))
    count, step = images_in(x), f.pitch * f.stride
    frames = scratch(room, frame_length(f))
    from, to = x.data, z.data
    in_parts(channels_in(x), part_of(channels_in(x), size(to, 1) * N)) do part, worker
        frame = frames[worker]
        for c in part
            w = ntuple(n -> @inbounds(weight[n, c]), Val(N))
            for image in 0:(count - 1)
                plane = (c - 1) * count + image
                frame!(frame, f, from, plane * x.w * x.h, (x.w, x.h), across)
                slide_frame!(to, plane * z.w * z.h, (z.w, z.h), frame, step, w, begins)
            end
        end
    end
    foreach(frame -> give_back!(room, frame), frames)
    return z
end

# The gradient slides the kernel, turned round, over the output's gradient, between whose numbers lie
# zeros where the stride is larger than one.
function input_gradient!(room, op::EachChannel, dx, dz)
    g = op.sliding
    reach = (g.kernel .- 1) .* g.dilation
    back = Sliding(g.kernel, (1, 1), g.dilation, reach .- g.before, g.to, g.from)
    weight = op.weight[end:-1:1, :]
    counted(taps(g)) do n
        slide_frames!(room, n, dx, dz, Frame(back), back, weight, g.stride[1])
    end
    return dx
end

weight_gradient!(room, op::EachChannel, dw, x, dz) = counted(taps(op.sliding)) do n
    tap_products!(room, n, reshape(dw, :, channels_in(x)), x, dz, op.sliding)
end

function tap_products!(room, ::Val{N}, dw, x, dz, g) where {N}
    f = Frame(g)
    begins, step, count = NTuple{N, Int}(starts(f, g)), f.pitch * f.stride, images_in(x)
    frames = scratch(room, frame_length(f))
    from, given, size = x.data, dz.data, dz.w * dz.h
    in_parts(channels_in(x), part_of(channels_in(x), size * count * N)) do part, worker
        frame = frames[worker]
        for c in part
            sums = ntuple(_ -> 0.0f0, Val(N))
            for image in 0:(count - 1)
                plane = (c - 1) * count + image
                frame!(frame, f, from, plane * x.w * x.h, (x.w, x.h))
                for y in 0:(dz.h - 1)
                    at = plane * size + y * dz.w
                    sums = line_products(sums, frame, y * step, begins, given, at, dz.w)
                end
            end
            for n in 1:N
                dw[n, c] = sums[n]
            end
        end
    end
    foreach(frame -> give_back!(room, frame), frames)
    return dw
end

function line_products(sums::NTuple{N, Float32}, frame, from, begins, dz, at, wide) where {N}
    return ntuple(Val(N)) do n
        sum, start = 0.0f0, from + begins[n]
        @inbounds @simd for x in 1:wide
            sum = muladd(frame[start + x], dz[at + x], sum)
        end
        sums[n] + sum
    end
end
