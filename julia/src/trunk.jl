# The frozen trunk, rewritten for inference on a processor. What pays, in order of gain:
# - a 1×1 convolution is one matrix product over all pixels, without im2col;
# - BatchNorm is folded into the convolution before it;
# - bias, shortcut and activation are applied to a block of rows while it lies in the cache;
# - buffers are reused, and the images of a batch are spread over the threads, a few for each.
#
# Images that pass through together.
const CHUNK = 4

"The trunk as a list of operations over numbered slots; `rest` are the units it leaves to Flux."
struct FastTrunk
    operations::Vector{Any}
    last::Int
    rest::Chain
    workspaces::Vector{Workspace}
end

function FastTrunk(units, chain::Chain)
    operations, slot, done = Any[], 0, 0
    for (unit, layer) in zip(units, chain.layers)
        haskey(EMITTERS, unit.kind) || break
        slot = EMITTERS[unit.kind](operations, unit.options, first.(leaves(layer)), slot)
        done += 1
    end
    return FastTrunk(operations, slot, chain[(done + 1):length(units)], Workspace[])
end

"Slots other than these, in order."
others(taken...) = [slot for slot in 1:4 if !(slot in taken)]

"Weight and bias of a convolution and the BatchNorm behind it, as one matrix and one vector."
function fold(conv::Conv, norm = nothing)
    weight = reshape(outside(conv.weight), :, size(conv.weight, 4))
    bias = conv.bias isa AbstractVector ? copy(conv.bias) : zeros(Float32, size(weight, 2))
    norm === nothing && return weight, bias
    scale = norm.γ ./ sqrt.(norm.σ² .+ norm.ϵ)
    return weight .* transpose(scale), (bias .- norm.μ) .* scale .+ norm.β
end

function convolve!(
    ops,
    leaves,
    activation,
    from,
    to;
    padding = -1,
    add = false,
    columns = nothing,
    width = 0,
)
    conv = first(leaves)
    weight, bias = fold(leaves...)
    kernel = size(conv.weight, 1)
    out = size(weight, 2)
    push!(
        ops,
        Convolve(
            weight,
            bias,
            kernel,
            first(conv.stride),
            padding == "same",
            padding == -1 ? kernel ÷ 2 : padding == "same" ? 0 : padding,
            conv.groups,
            activation,
            from,
            to,
            columns === nothing ? (1:out) : columns,
            columns === nothing ? out : width,
            add,
        ),
    )
    return to
end

function emit_conv(ops, o, leaves, x)
    activation = ACTIVATIONS[o["activation"]]
    return convolve!(ops, leaves, activation, x, first(others(x)); padding = o["padding"])
end

# The shortcut's slot receives the block's last convolution.
function emit_residual(ops, o, leaves, x)
    steps = [leaves[i:(i + 1)] for i in 1:2:length(leaves)]
    a, b, c = others(x)
    target = x
    if o["stride"] != 1 || o["in"] != o["out"]
        target = convolve!(ops, pop!(steps), identity, x, c)
    end
    from, to = x, a
    for step in steps[1:(end - 1)]
        convolve!(ops, step, relu, from, to)
        from, to = to, to == a ? b : a
    end
    return convolve!(ops, steps[end], relu, from, target; add = true)
end

function emit_inverted(ops, o, leaves, x)
    steps = [leaves[i:(i + 1)] for i in 1:2:length(leaves)]
    a, b, c = others(x)
    from = length(steps) == 3 ? convolve!(ops, popfirst!(steps), relu6, x, a) : x
    conv, norm = steps[1]
    weight, bias = fold(conv, norm)
    kernel = size(conv.weight, 1)
    same = o["padding"] == "same"
    push!(
        ops,
        Depthwise(
            reshape(weight, kernel, kernel, :),
            bias,
            kernel,
            o["stride"],
            same,
            same ? 0 : o["padding"],
            relu6,
            from,
            b,
        ),
    )
    residual = o["residual"]
    return convolve!(ops, steps[2], identity, b, residual ? x : c; add = residual)
end

function emit_fire(ops, o, leaves, x)
    a, b, _ = others(x)
    squeeze, narrow, wide = leaves
    convolve!(ops, [squeeze], relu, x, a)
    expand = o["expand"]
    convolve!(ops, [narrow], relu, a, b; columns = 1:expand, width = 2expand)
    return convolve!(ops, [wide], relu, a, b; columns = (expand + 1):(2expand), width = 2expand)
end

function emit_maxpool(ops, o, leaves, x)
    to = first(others(x))
    push!(ops, Maximum(o["kernel"], o["stride"], o["padding"], o["ceil"], x, to))
    return to
end

const EMITTERS = Dict(
    :basic => emit_residual,
    :bottleneck => emit_residual,
    :conv => emit_conv,
    :fire => emit_fire,
    :inverted => emit_inverted,
    :maxpool => emit_maxpool,
)

# --- running --------------------------------------------------------------------------------------

function (fast::FastTrunk)(images::Array{Float32, 4})
    w, h, channels, count = size(images)
    each = min(CHUNK, cld(count, Threads.nthreads()))
    chunks = [first:min(first + each - 1, count) for first in 1:each:count]
    y = Array{Float32}(undef, out_size(fast, (w, h, channels))..., count)
    workers = min(Threads.nthreads(), length(chunks))
    while length(fast.workspaces) < workers
        push!(fast.workspaces, Workspace())
    end
    with_blas_threads(workers == 1 ? Threads.nthreads() : 1) do
        next = Threads.Atomic{Int}(1)
        @sync for ws in fast.workspaces[1:workers]
            Threads.@spawn while true
                i = Threads.atomic_add!(next, 1)
                i > length(chunks) && break
                run_chunk!(y, fast, ws, images, chunks[i])
            end
        end
    end
    return fast.rest(y)
end

# Threads that each call the matrix product must not each start threads of their own.
function with_blas_threads(work, count)
    usual = BLAS.get_num_threads()
    BLAS.set_num_threads(count)
    try
        return work()
    finally
        BLAS.set_num_threads(usual)
    end
end

function run_chunk!(y, fast::FastTrunk, ws::Workspace, images, chunk)
    w, h, channels, _ = size(images)
    ws.count = length(chunk)
    start = (first(chunk) - 1) * w * h * channels
    batch = Source(vec(images), start, w * h, w * h * channels, (w, h, channels))
    foreach(op -> run!(op, ws, batch), fast.operations)
    result = ws.slots[fast.last]
    plane = size(y, 1) * size(y, 2)
    for (image, n) in enumerate(chunk), c in 1:size(y, 3)
        from = ((c - 1) * ws.count + image - 1) * plane + 1
        copyto!(y, ((n - 1) * size(y, 3) + c - 1) * plane + 1, result, from, plane)
    end
    return nothing
end

function out_size(fast::FastTrunk, size)
    sizes = Dict(0 => size)
    for op in fast.operations
        sizes[op.to] = out_size(op, sizes[op.from])
    end
    return sizes[fast.last]
end
