# Evaluation mode: same input, same output, nothing remembered.
#
# On a processor every unit that gains by it is rewritten when it is first run; trunk and tail take
# the same way, so that moving the cut changes no bit of the logits.

# Images that pass through a thread together.
const CHUNK = 4

"""
    Inference(net)

The network as it is now, for evaluation alone: weights are folded, transformed and packed once and
never change. `embed`, `logits` and the call itself (the whole network) take it like a `Network`, from
any number of tasks at once; what happens to `net` later does not reach it.

`embed(net, x)` and `logits(net, x)` keep the same for a `Network`, and read its weights at each call
to see whether they changed: about 5 ms for a ResNet-50, whatever the count of images.
"""
struct Inference
    units::Vector{Unit}
    layers::Vector{Any}     # nothing where there are operations
    operations::Vector{Any} # of each unit, or nothing where its own layer is as good
    device::Any
    cut::Int
    pool::Pool
end

function Inference(net::Network)
    operations = Any[operations_of(net, i; watch = true) for i in eachindex(net.units)]
    layers = Any[
        made === nothing ? Flux.testmode!(deepcopy(layer)) : nothing
        for (made, layer) in zip(operations, net.chain.layers)
    ]
    return Inference(net.units, layers, operations, net.device, net.cut, Pool())
end

operations_of(net::Network, i; watch) = net.device isa Flux.CPUDevice ?
    prepared!(net.kept, net.units[i], net.chain.layers[i], i; watch) :
    nothing

Base.show(io::IO, model::Inference) = print(io, "Inference(", length(model.units), " units)")

(model::Inference)(x) = evaluate(model, x, eachindex(model.units))

"Run the trunk on images (W, H, 3, N)."
embed(net::Union{Network, Inference}, images::AbstractArray; options...) = evaluate(
    net,
    images,
    1:net.cut;
    options...,
)

"Run the tail on what `embed` returned."
logits(net::Union{Network, Inference}, x::AbstractArray; options...) = evaluate(
    net,
    x,
    (net.cut + 1):length(net.units);
    options...,
)

"Run units start … stop − 1, counted from 0."
function apply(
    net::Union{Network, Inference},
    x::AbstractArray,
    start::Integer,
    stop::Integer;
    options...,
)
    return evaluate(net, x, (start + 1):stop; options...)
end

# `watch = false` is for a caller that knows that only `step!` and `load!` change the weights.
function evaluate(net::Network, x, range; watch = true)
    operations = Any[nothing for _ in net.units]
    for i in range
        operations[i] = operations_of(net, i; watch)
    end
    layers = net.chain.layers
    model = Inference(net.units, layers, operations, net.device, net.cut, net.kept.pool)
    return evaluate(model, x, range)
end

function evaluate(model::Inference, x, range)
    isempty(range) && return x
    check_input(model.units, first(range), x)
    model.device isa Flux.CPUDevice || (x = model.device(x))
    i = first(range)
    while i <= last(range)
        run = Rewritten[]
        while i <= last(range) && model.operations[i] !== nothing
            push!(run, model.operations[i])
            i += 1
        end
        if isempty(run)
            x = model.layers[i](x)
            i += 1
        else
            x = run_rewritten(model.pool, run, x)
        end
    end
    return x
end

# What a unit takes: images of so many channels, or vectors of so many numbers, at least one.
function check_input(units, index, x)
    unit = units[index]
    eltype(x) === Float32 ||
        throw(ArgumentError("images must be Float32, got $(eltype(x)). Use Float32.(x)"))
    isempty(x) && throw(ArgumentError("images must hold at least one image, got size $(size(x))"))
    axes = axes_of(unit, ndims(x))
    ndims(x) == axes ||
        throw(DimensionMismatch("unit $(unit.name) takes $axes axes, got $(ndims(x))"))
    told = unit.kind in (:dense, :own) || unit.body !== nothing
    axes == 4 || told || return nothing
    wanted = told ? unit.options["in"] : channels_before(units, index)
    got = size(x, channel_axis(x))
    got == wanted || throw(DimensionMismatch("unit $(unit.name) takes $wanted channels, got $got"))
    return nothing
end

# Images have 4, tokens 3, vectors 2.
function axes_of(unit, given)
    unit.kind in (:flatten, :dropout) && return given
    return get(unit.options, "axes", unit.kind === :dense ? 2 : 4)
end

"Channels of the images that reach a unit: those of the last unit before it that says so."
function channels_before(units, index)
    for unit in Iterators.reverse(units[1:(index - 1)])
        unit.kind === :fire && return 2 * unit.options["expand"]
        haskey(unit.options, "out") && return unit.options["out"]
    end
    return 3
end

"Forget what was made of weights that have changed."
forget!(net::Network, range) = forget!(net.kept, range)

function run_rewritten(pool::Pool, units, x::AbstractArray{Float32})
    images = x isa Array ? x : Array(x)
    count = size(images, ndims(images))
    each = min(CHUNK, cld(count, Threads.nthreads()))
    chunks = [first:min(first + each - 1, count) for first in 1:each:count]
    y = Array{Float32}(
        undef,
        array_size(out_size(units, place_size(images)), last(units).axes, count),
    )
    workers = min(Threads.nthreads(), length(chunks))
    # Threads that each call the matrix product must not each start threads of their own.
    with_blas_threads(workers == 1 ? Threads.nthreads() : 1) do
        with_workspaces(pool, workers) do workspaces
            next = Threads.Atomic{Int}(1)
            @sync for ws in workspaces
                Threads.@spawn while true
                    i = Threads.atomic_add!(next, 1)
                    i > length(chunks) && break
                    run_chunk!(y, units, ws, images, chunks[i])
                end
            end
        end
    end
    return y
end

# The operations wrap the workspace's buffers by their addresses: it must outlive them.
function run_chunk!(y, units, ws::Workspace, images, chunk)
    GC.@preserve ws begin
        load_images!(ws, images, chunk)
        for unit in units
            foreach(op -> run!(op, ws), unit.operations)
            bring_forward!(ws, unit.result)
        end
        store_images!(y, ws, chunk)
    end
    return nothing
end

function out_size(units::Vector{Rewritten}, size)
    for unit in units
        sizes = Dict(1 => size)
        for op in unit.operations
            sizes[op.to] = out_size(op, sizes[op.from])
            all(>(0), sizes[op.to]) ||
                throw(DimensionMismatch("unit $(unit.name): an image of $(size[1:2]) is too small"))
        end
        size = sizes[unit.result]
    end
    return size
end

"Sizes of each unit's output for an input of this size; runs the network once on zeros."
function trace(net::Network, size; options...)
    x = zeros(Float32, size)
    sizes = Tuple[]
    for i in eachindex(net.units)
        x = evaluate(net, x, i:i; options...)
        push!(sizes, Base.size(x))
    end
    return sizes
end
