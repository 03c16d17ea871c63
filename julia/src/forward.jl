# Forward and backward of a training step on a processor: layers are walked one by one, each gives its
# output and a function that takes the output's gradient back. What is not known here goes through
# Zygote.
#
#     y, back = forward(room, layer, x)
#     dx, mirror = back(dy, wanted)
#
# `x` and `y` are Planes or arrays; `dx` is nothing unless `wanted`; `mirror` holds the gradients by the
# layer's fields, as Zygote's does. Whoever calls `back` gives `dy` back afterwards, unless it is `dx`
# itself, and `y`, unless it is `x` itself: layers behind have been called before.

"Fields of a layer with their gradients; nothing for those without."
function mirror_of(layer; gradients...)
    names = fieldnames(typeof(layer))
    return merge(NamedTuple{names}(map(_ -> nothing, names)), (; gradients...))
end

"Loss, and the gradients of each layer, from the first on."
function gradients(room::Room, layers, x, soft, total)
    input = planes(room, x)
    y, back = forward_each(room, collect(Any, layers), input)
    loss, dy = loss_and_gradient(images(y), soft, total)
    # Nobody asks how the input should change.
    _, mirrors = back(dy, false)
    return loss, mirrors
end

"Mean cross entropy, and its gradient with respect to the logits."
function loss_and_gradient(logits, soft, total)
    share = softmax(logits) .* sum(soft; dims = 1) .- soft
    return cross_entropy(logits, soft, total), share ./ Float32(total)
end

# --- what layers are made of ----------------------------------------------------------------------------

# A vector of layers and `@nospecialize`: compiled once, not for each block.
forward(room, @nospecialize(layer::Chain), x) = forward_chain(
    room,
    layer,
    collect(Any, values(layer.layers)),
    x,
)

function forward_chain(room, @nospecialize(holder), layers::Vector{Any}, x)
    y, back = forward_each(room, layers, x)
    function inner(dy, wanted)
        dx, mirrors = back(dy, wanted)
        return dx, mirror_of(holder; layers = like(holder.layers, mirrors))
    end
    return y, inner
end

"One layer after the other; `back` gives a vector of their gradients."
function forward_each(room, layers::Vector{Any}, x)
    steps, i, input = Tuple{Int, Any, Any}[], 1, x # place, back, output
    while i <= length(layers)
        layer = layers[i]
        f = i < length(layers) ? layers[i + 1] : nothing
        # An activation behind a norm is computed with it.
        together = norm_here(layer, x) && layer.λ === identity && f isa Activated
        y, back = together ? forward_norm(room, layer, f, x) : forward(room, layer, x)
        push!(steps, (i, back, y))
        x = y
        i += together ? 2 : 1
    end
    output = x
    first_trained = something(findfirst(layer -> !isempty(Flux.trainables(layer)), layers), 1)
    function back(dy, wanted)
        mirrors, given = Any[nothing for _ in layers], dy
        for (place, (i, back, y)) in Iterators.reverse(enumerate(steps))
            wanted || i >= first_trained || return nothing, mirrors
            dx, mirrors[i] = back(dy, wanted || i > first_trained)
            dx === dy || dy === given || give_back!(room, dy)
            before = place == 1 ? input : steps[place - 1][3]
            y === before || y === output || give_back!(room, y)
            dy = dx
        end
        return dy, mirrors
    end
    return output, back
end

like(layers::NamedTuple, mirrors) = NamedTuple{keys(layers)}(Tuple(mirrors))
like(layers, mirrors) = mirrors

forward(room, ::typeof(identity), x) = x, (dy, _) -> (dy, nothing)
forward(room, ::typeof(identity), x::Planes) = x, (dy, _) -> (dy, nothing)

# How branches are joined: by their sum and this activation, as Val(:times) or Val(:beside), or nothing.
joins(::Union{typeof(+), typeof(plus)}) = identity
joins(::typeof(times)) = Val(:times)
joins(::Union{typeof(beside), typeof(Metalhead.cat_channels)}) = Val(:beside)
function joins(connection)
    # Metalhead's residual blocks: `addact` with its activation bound.
    hasproperty(connection, :func) && connection.func === Metalhead.addact || return nothing
    return length(connection.args) == 1 && connection.args[1] isa Activated ?
        connection.args[1] :
        nothing
end

function forward(room, @nospecialize(layer::Parallel), x::Planes)
    join = joins(layer.connection)
    join === nothing && return forward_by_zygote(room, layer, x)
    return forward_branches(room, layer, collect(Any, values(layer.layers)), join, x)
end

# The input is the second of the two that are joined.
function forward(room, @nospecialize(layer::SkipConnection), x::Planes)
    join = joins(layer.connection)
    join === nothing && return forward_by_zygote(room, layer, x)
    y, back = forward_branches(room, layer, Any[layer.layers, identity], join, x)
    function inner(dy, wanted)
        dx, mirror = back(dy, wanted)
        return dx, mirror_of(layer; layers = mirror.layers[1])
    end
    return y, inner
end

function forward_branches(room, @nospecialize(holder), branches::Vector{Any}, join, x)
    results = Any[forward(room, branch, x) for branch in branches]
    ys = Planes[first(result) for result in results]
    y, divide = join_up(room, join, ys)
    # What was added nobody reads any more.
    if join isa Activated
        foreach(
            ((branch, y),) -> y !== x && unread(branch) && give_back!(room, y),
            zip(branches, ys),
        )
    end
    function back(dy, wanted)
        parts = divide(dy)
        pairs = [back(part, wanted) for ((_, back), part) in zip(results, parts)]
        dx = wanted ? summed!(room, first.(pairs), parts) : nothing
        for part in parts
            part === dy || give_back!(room, part)
        end
        mirrors = Any[last(pair) for pair in pairs]
        return dx, mirror_of(holder; layers = like(holder.layers, mirrors))
    end
    return y, back
end

# Whether a layer's `back` leaves its output alone.
unread(layer) = layer isa Union{BatchNorm, Conv}
unread(layer::Chain) = unread(last(values(layer.layers)))

# One of the gradients takes the others, unless it is what a branch was given.
function summed!(room, gradients, parts)
    borrowed(dx) = any(part -> part === dx, parts)
    i = findfirst(!borrowed, gradients)
    dx = i === nothing ? copyto!(room!(room, gradients[1]), gradients[1]) : gradients[i]
    for (j, more) in enumerate(gradients)
        j == something(i, 1) && continue
        add!(dx, more)
        borrowed(more) || give_back!(room, more)
    end
    return dx
end

join_up(room, f::Activated, ys) = join_by_sum(room, f, ys)

function join_by_sum(room, f, ys)
    z = room!(room, first(ys))
    kept = f isa FromOutput
    sum_up!(kept ? f : identity, z.data, [each.data for each in ys])
    y = kept ? z : activate!(f, room!(room, z), z)
    function divide(dy)
        f === identity && return [dy for _ in ys]
        dz = weighed!(f, room!(room, dy), dy, z)
        return [dz for _ in ys]
    end
    return y, divide
end

function sum_up!(f::F, y, xs) where {F}
    a, b = xs[1], xs[2]
    in_parts(length(y), WORTHWHILE) do part, _
        @inbounds @simd ivdep for i in part
            y[i] = a[i] + b[i]
        end
        for x in xs[3:end]
            @inbounds @simd ivdep for i in part
                y[i] += x[i]
            end
        end
        @inbounds @simd ivdep for i in part
            y[i] = f(y[i])
        end
    end
    return y
end

add!(y::Planes, x::Planes) = (sum_up!(identity, y.data, [y.data, x.data]); y)
Base.copyto!(y::Planes, x::Planes) = (copyto!(y.data, x.data); y)

function join_up(room, ::Val{:beside}, ys)
    ends = cumsum(channels_in.(ys))
    y = room!(room, first(ys), last(ends))
    ranges = [(stop - channels_in(each) + 1):stop for (each, stop) in zip(ys, ends)]
    for (each, range) in zip(ys, ranges)
        copyto!(view(y.data, :, range), each.data)
    end
    function divide(dy)
        return map(ranges) do range
            part = room!(room, dy, length(range))
            copyto!(part.data, view(dy.data, :, range))
            part
        end
    end
    return y, divide
end

# One of two factors may be one number for a channel of an image.
function join_up(room, ::Val{:times}, ys)
    length(ys) == 2 || throw(ArgumentError("a product has two branches, got $(length(ys))"))
    x, weights = channel_size(ys[1]) >= channel_size(ys[2]) ? ys : reverse(ys)
    y = weigh_channels!(room!(room, x), x, weights)
    function divide(dy)
        dx = weigh_channels!(room!(room, dy), dy, weights)
        dweights = sum_products!(room!(room, weights), dy, x)
        return x === ys[1] ? [dx, dweights] : [dweights, dx]
    end
    return y, divide
end

channel_size(x::Planes) = x.w * x.h

function weigh_channels!(y, x, weights)
    rows = size(x.data, 1) ÷ size(weights.data, 1)
    a, b, out = x.data, weights.data, y.data
    in_parts(length(b), part_of(length(b), rows)) do part, _
        for i in part
            weight, first = b[i], (i - 1) * rows
            @inbounds @simd ivdep for row in (first + 1):(first + rows)
                out[row] = a[row] * weight
            end
        end
    end
    return y
end

function sum_products!(weights, x, y)
    rows = size(x.data, 1) ÷ size(weights.data, 1)
    a, b, out = x.data, y.data, weights.data
    in_parts(length(out), part_of(length(out), rows)) do part, _
        for i in part
            sum, first = 0.0f0, (i - 1) * rows
            @inbounds @simd for row in (first + 1):(first + rows)
                sum = muladd(a[row], b[row], sum)
            end
            out[i] = sum
        end
    end
    return weights
end

# --- at each place by itself ----------------------------------------------------------------------------

function forward(room, f::Activated, x::Planes)
    y = activate!(f, room!(room, x), x)
    return y, (dy, wanted) -> (wanted ? weighed!(f, room!(room, x), dy, x) : nothing, nothing)
end

forward(room, layer::Activation, x::Planes) = layer.f isa Activated ?
    forward(room, layer.f, x) :
    forward_by_zygote(room, layer, x)

function activate!(f::F, y, x) where {F}
    fast, from, to = in_vectors(f), x.data, y.data
    activate_all!(fast, to, from)
    return y
end

function activate_all!(f::F, y, x) where {F}
    in_parts(length(y), WORTHWHILE) do part, _
        @inbounds @simd ivdep for i in part
            y[i] = f(x[i])
        end
    end
    return y
end

"dy · f′(z)."
function weighed!(f::F, dz, dy, z) where {F}
    a, b, out = dy.data, z.data, dz.data
    in_parts(length(out), WORTHWHILE) do part, _
        @inbounds @simd ivdep for i in part
            out[i] = a[i] * slope(f, b[i])
        end
    end
    return dz
end

# --- pooling and the way to vectors ---------------------------------------------------------------------

function forward(room, layer::AdaptiveMean, x::Planes)
    x.w == x.h == layer.size && return x, (dy, _) -> (dy, nothing)
    layer.size == 1 || return forward_by_zygote(room, layer, x)
    rows = x.w * x.h
    y = Planes(room!(room, images_in(x), channels_in(x)), 1, 1)
    mean_rows!(y.data, x.data, rows, 0)
    function back(dy, wanted)
        wanted || return nothing, nothing
        dx = room!(room, x)
        for i in eachindex(dy.data)
            dx.data[((i - 1) * rows + 1):(i * rows)] .= dy.data[i] / rows
        end
        return dx, nothing
    end
    return y, back
end

forward(room, ::typeof(Flux.flatten), x::Planes) = Flux.flatten(images(x)),
    (dy, wanted) -> (
        wanted ? planes(room, reshape(dy, x.w, x.h, channels_in(x), images_in(x))) : nothing,
        nothing,
    )

forward(room, layer::WindowMax, x::Planes) = forward_highest(
    room,
    Maximum(layer.kernel, layer.stride, layer.padding, false, 1, 1),
    x,
)

forward(room, layer::CeilMaxPool, x::Planes) = forward_highest(
    room,
    Maximum(layer.kernel, layer.stride, layer.padding, true, 1, 1),
    x,
)

# Of equal values the first takes the gradient, row by row.
function forward_highest(room, pool, x)
    w, h, _ = out_size(pool, (x.w, x.h, 1))
    size, before = w * h, x.w * x.h
    y = Planes(room!(room, size * images_in(x), channels_in(x)), w, h)
    places = room!(room, Base.size(y.data)...)
    from, to = x.data, y.data
    count = length(to) ÷ size # planes
    in_parts(count, part_of(count, size)) do part, _
        foreach(
            i -> highest!(
                pool,
                to,
                places,
                (i - 1) * size,
                (w, h),
                from,
                (i - 1) * before,
                (x.w, x.h),
            ),
            part,
        )
    end
    function back(dy, wanted)
        wanted || return nothing, nothing
        dx, given = room!(room, x), dy.data
        out = dx.data
        in_parts(count, part_of(count, size)) do part, _
            for i in part
                @inbounds out[((i - 1) * before + 1):(i * before)] .= 0.0f0
                @inbounds for at in ((i - 1) * size + 1):(i * size)
                    out[reinterpret(Int32, places[at]) + (i - 1) * before] += given[at]
                end
            end
        end
        return dx, nothing
    end
    return y, back
end

# The largest of each window, and where in the plane it lies, as the bits of an Int32.
function highest!(pool, out, places, skipped, (wide, high), data, start, (w, h))
    for y in 0:(high - 1), x in 0:(wide - 1)
        best, place = -Inf32, Int32(1)
        top, left = y * pool.stride - pool.padding, x * pool.stride - pool.padding
        for line in max(top, 0):min(top + pool.kernel - 1, h - 1)
            for column in max(left, 0):min(left + pool.kernel - 1, w - 1)
                at = line * w + column + 1
                value = @inbounds data[start + at]
                larger = (value > best) | (value != value)
                best, place = ifelse(larger, value, best), ifelse(larger, at % Int32, place)
            end
        end
        @inbounds out[skipped + y * wide + x + 1] = best
        @inbounds places[skipped + y * wide + x + 1] = reinterpret(Float32, place)
    end
    return nothing
end

function forward(room, layer::PadSame, x::Planes)
    grown(n) = n + same_padding(n, layer.kernel, layer.stride)
    before(n) = same_padding(n, layer.kernel, layer.stride) ÷ 2
    w, h = grown(x.w), grown(x.h)
    (w, h) == (x.w, x.h) && return x, (dy, _) -> (dy, nothing)
    y = Planes(room!(room, w * h * images_in(x), channels_in(x)), w, h)
    fill!(y.data, 0.0f0)
    across, down = (before(x.w) + 1):(before(x.w) + x.w), (before(x.h) + 1):(before(x.h) + x.h)
    inside(data) = view(reshape(data, w, h, :), across, down, :)
    copyto!(inside(y.data), reshape(x.data, x.w, x.h, :))
    function back(dy, wanted)
        wanted || return nothing, nothing
        dx = room!(room, x)
        copyto!(reshape(dx.data, x.w, x.h, :), inside(dy.data))
        return dx, nothing
    end
    return y, back
end

# --- the rest -------------------------------------------------------------------------------------------

forward(room, layer, x) = forward_by_zygote(room, layer, x)

"Any layer, as Flux computes it."
function forward_by_zygote(room, layer, x)
    y, back = Flux.pullback((layer, x) -> layer(x), layer, images(x))
    function inner(dy, _)
        mirror, dx = back(images(dy))
        return dx === nothing ? nothing : planes(room, unthunk(dx)), unboxed(mirror)
    end
    return planes(room, y), inner
end

# Zygote keeps the gradient of what may change in a box.
unboxed(mirror::Base.RefValue) = unboxed(mirror[])
unboxed(mirror::Union{Tuple, NamedTuple}) = map(unboxed, mirror)
unboxed(mirror) = mirror
