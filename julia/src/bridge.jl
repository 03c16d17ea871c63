# The package for another language: networks by number, calls for whole batches. Nothing here is kept
# after a call but the networks themselves: arrays may be another language's.

const NETWORKS = Dict{Int, Network}()
const LAST = Ref(0) # numbers are not used twice

"Build a network on \"cpu\" or \"cuda\" and return its number."
function create(text, device)
    to = device == "cuda" ? Flux.gpu_device(; force = true) : Flux.cpu_device()
    plan = parse_plan(text)
    load_module(plan)
    return keep(Base.invokelatest(Network, plan, to))
end

"Build what a call makes, as it leaves it, and return its number."
function create_own(name, side)
    trunk, head = parts(called(name))
    return keep(Base.invokelatest(Network, trunk, head; name, side))
end

"The plan of a network of one's own, as text."
own_plan(number) = own_text(NETWORKS[number])

"The chain itself."
chain_of(number::Integer) = NETWORKS[number].chain

"Somebody else may have changed the weights."
function changed(number)
    net = NETWORKS[number]
    return forget!(net, eachindex(net.units))
end

"Build a network with Metalhead's published weights and return its number."
create_pretrained(text, deadline_s) = in_shared_depot() do
    keep(pretrained(parse_plan(text); deadline_s))
end

"""
Call `work` with the depots of the user alone. The first one is then that of this installation's
compiled code, which PYFLUX_DEPOT names; a download belongs to the user.
"""
function in_shared_depot(work)
    own = get(ENV, "PYFLUX_DEPOT", "")
    (length(DEPOT_PATH) > 1 && first(DEPOT_PATH) == own) || return work()
    popfirst!(DEPOT_PATH)
    try
        return work()
    finally
        pushfirst!(DEPOT_PATH, own)
    end
end

function keep(net::Network)
    LAST[] += 1
    NETWORKS[LAST[]] = net
    return LAST[]
end

"Forget networks that nobody holds any more."
release(numbers...) = foreach(number -> delete!(NETWORKS, number), numbers)

name_of_device(number) = device_name(NETWORKS[number].device)
cut_network(number, cut) = (cut_at!(NETWORKS[number], cut); nothing)
wait_for(number) = synchronize(NETWORKS[number].device)

prepare_network(number; beta1, beta2, options...) = (
    prepare!(NETWORKS[number], Update(; beta = (beta1, beta2), options...));
    nothing
)

# The other language changes weights by `step_batch` and `load_state` alone: nothing has to be looked
# for.
embed_batch(number, x) = here(embed(NETWORKS[number], x; watch = false))
logits_batch(number, x) = here(logits(NETWORKS[number], x; watch = false))
apply_units(number, x, start, stop) = here(apply(NETWORKS[number], x, start, stop; watch = false))

"On the processor."
here(x::Array) = x
here(x) = Array(x)

"One step; labels count from 0 outside and from 1 here."
step_batch(number, x, y, stages, rates, weights) = step!(
    NETWORKS[number],
    x,
    y .+ 1,
    Dict{String, Float64}(zip(stages, rates)),
    weights,
)

"Sizes of every unit's output, a column a unit: count of axes, then sizes, batch first."
function trace_network(number, size)
    sizes = trace(NETWORKS[number], Tuple(reverse(size)); watch = false)
    table = zeros(Int, 5, length(sizes))
    for (column, each) in enumerate(sizes)
        table[1, column] = length(each)
        table[2:(length(each) + 1), column] .= reverse(each)
    end
    return table
end

# Arrays arrive as mirror images of row-major ones, so their sizes are those of `state`.

"Fill the arrays with the tensors of these names."
function store_state(number, names, arrays)
    tensors_of = Dict(t.name => t for t in tensors(NETWORKS[number]))
    fill_each(name -> outer(tensors_of[name]), names, arrays)
    return nothing
end

function fill_each(make, names, arrays)
    for (name, x) in zip(names, arrays)
        copyto!(x, make(name))
    end
    return nothing
end

"Replace all tensors; strict."
load_state(number, names, arrays) = (load!(NETWORKS[number], named(names, arrays)); nothing)

named(names, arrays) = Dict{String, Any}(zip(names, arrays))

steps_done(number) = NETWORKS[number].steps

"Fill the arrays with what the optimizer remembers; a name is slot/parameter."
function store_memory(number, names, arrays)
    held = memory(NETWORKS[number])
    fill_each(name -> outside(Array(held[name])), names, arrays)
    return nothing
end

"Replace what the optimizer remembers after `steps` steps; strict."
function load_memory(number, steps, names, arrays)
    load_memory!(NETWORKS[number], steps, named(names, arrays))
    return nothing
end

"Where this package lies."
folder() = pkgdir(@__MODULE__)

"Versions and settings, as name => text."
function report()
    versions = ["Julia" => string(VERSION)]
    for package in (Flux, Metalhead, Optimisers, NNlib)
        push!(versions, string(nameof(package)) => package_version(package))
    end
    settings = ["threads" => Threads.nthreads(), "BLAS kernels" => blas_kernels()]
    return [string(name) * "\t" * string(value) for (name, value) in vcat(versions, settings)]
end

package_version(package) = TOML.parsefile(joinpath(pkgdir(package), "Project.toml"))["version"]

"Name of the kernels that OpenBLAS chose for this processor; empty for another BLAS."
function blas_kernels()
    for symbol in (:openblas_get_corename64_, :openblas_get_corename)
        for library in BLAS.get_config().loaded_libs
            handle = Libdl.dlopen(library.libname)
            found = Libdl.dlsym(handle, symbol; throw_error = false)
            found === nothing || return unsafe_string(ccall(found, Cstring, ()))
        end
    end
    return ""
end

"Matrix products of single precision, all threads, in 10⁹ operations a second: the ceiling."
function ceiling(; n = 2048, repeats = 5)
    a, b, c = rand(Float32, n, n), rand(Float32, n, n), zeros(Float32, n, n)
    with_blas_threads(Threads.nthreads()) do
        BLAS.gemm!('N', 'N', 1.0f0, a, b, 0.0f0, c)
        fastest = minimum(@elapsed(BLAS.gemm!('N', 'N', 1.0f0, a, b, 0.0f0, c)) for _ in 1:repeats)
        2n^3 / fastest / 1.0e9
    end
end

"""
Gradient of each example's logit `y`, counted from 0, with respect to `x`, which comes to unit
`start`; in evaluation mode.
"""
function gradient_batch(number, x, y, start)
    net = NETWORKS[number]
    input = net.device(x)
    chosen = net.device(Float32.(Flux.onehotbatch(y, 0:(classes(net) - 1))))
    # A copy: what belongs to the tail would be in training mode inside a gradient.
    layers = Flux.testmode!(deepcopy(net.chain[(start + 1):length(net.units)]))
    return Array(only(Flux.gradient(z -> sum(layers(z) .* chosen), input)))
end
