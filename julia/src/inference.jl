# Evaluation mode: same input, same output, nothing remembered.
#
# On a processor every unit that gains by it is rewritten when it is first run; trunk and tail take
# the same way, so that moving the cut changes no bit of the logits.

# Images that pass through a thread together.
const CHUNK = 4

"Run the trunk on images (W, H, 3, N)."
embed(net::Network, images::AbstractArray) = evaluate(net, images, 1:net.cut)

"Run the tail on what `embed` returned."
logits(net::Network, x::AbstractArray) = evaluate(net, x, (net.cut + 1):length(net.units))

"Run units start … stop − 1, counted from 0."
apply(net::Network, x::AbstractArray, start::Integer, stop::Integer) = evaluate(
    net,
    x,
    (start + 1):stop,
)

function evaluate(net::Network, x, range)
    isempty(range) || check_input(net.units, first(range), x)
    net.device isa Flux.CPUDevice || return net.chain[range](net.device(x))
    i = first(range)
    while i <= last(range)
        run = Rewritten[]
        while i <= last(range) && rewritten(net, i) !== nothing
            push!(run, rewritten(net, i))
            i += 1
        end
        if isempty(run)
            x = net.chain[i](x)
            i += 1
        else
            x = run_rewritten(net.workspaces, run, x)
        end
    end
    return x
end

# What a unit takes: images of so many channels, or vectors of so many numbers.
function check_input(units, index, x)
    unit = units[index]
    axes = unit.kind === :dense ? 2 : unit.kind in (:flatten, :dropout) ? ndims(x) : 4
    ndims(x) == axes ||
        throw(DimensionMismatch("unit $(unit.name) takes $axes axes, got $(ndims(x))"))
    axes == 4 || unit.kind === :dense || return nothing
    wanted = unit.kind === :dense ? unit.options["in"] : channels_before(units, index)
    size(x, axes - 1) == wanted ||
        throw(DimensionMismatch(
            "unit $(unit.name) takes $wanted channels, got $(size(x, axes - 1))",
        ))
    return nothing
end

"Channels of the images that reach a unit: those of the last unit before it that says so."
function channels_before(units, index)
    for unit in Iterators.reverse(units[1:(index - 1)])
        unit.kind === :fire && return 2 * unit.options["expand"]
        haskey(unit.options, "out") && return unit.options["out"]
    end
    return 3
end

rewritten(net::Network, i) = get!(() -> rewrite(net.units[i], net.chain[i]), net.rewritten, i)

"Forget what was made of weights that have changed."
forget!(net::Network, range) = foreach(i -> delete!(net.rewritten, i), range)

function run_rewritten(workspaces, units, x::AbstractArray{Float32, 4})
    images = x isa Array ? x : Array(x)
    w, h, channels, count = size(images)
    each = min(CHUNK, cld(count, Threads.nthreads()))
    chunks = [first:min(first + each - 1, count) for first in 1:each:count]
    y = Array{Float32}(undef, out_size(units, (w, h, channels))..., count)
    workers = min(Threads.nthreads(), length(chunks))
    while length(workspaces) < workers
        push!(workspaces, Workspace())
    end
    with_blas_threads(workers == 1 ? Threads.nthreads() : 1) do
        next = Threads.Atomic{Int}(1)
        @sync for ws in workspaces[1:workers]
            Threads.@spawn while true
                i = Threads.atomic_add!(next, 1)
                i > length(chunks) && break
                run_chunk!(y, units, ws, images, chunks[i])
            end
        end
    end
    return y
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

function run_chunk!(y, units, ws::Workspace, images, chunk)
    load_images!(ws, images, chunk)
    for unit in units
        foreach(op -> run!(op, ws), unit.operations)
        bring_forward!(ws, unit.result)
    end
    store_images!(y, ws, chunk)
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
function trace(net::Network, size)
    x = zeros(Float32, size)
    sizes = Tuple[]
    for i in eachindex(net.units)
        x = evaluate(net, x, i:i)
        push!(sizes, Base.size(x))
    end
    return sizes
end
