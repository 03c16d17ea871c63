# Tensors by torchvision's names, in its layout, both ways.
#
# A row-major (O, I, kH, kW) array is a column-major (kW, kH, I, O) one. Flux's Conv is a true
# convolution, so its kernel is PyTorch's turned by 180°; a Dense weight is transposed.

# torchvision's name of a tensor => the field of the Flux layer
const FIELDS = Dict(
    :conv => ("weight" => :weight, "bias" => :bias),
    :dense => ("weight" => :weight, "bias" => :bias),
    :layernorm => ("weight" => :weight, "bias" => :bias),
    :norm => ("weight" => :γ, "bias" => :β, "running_mean" => :μ, "running_var" => :σ²),
    :scale => ("" => :value,), # the tensor has the layer's own name
    :token => ("" => :value,),
)
"One tensor: its full name, what holds it, its field there, and the leaf's gradient."
struct Tensor
    name::String
    leaf::Any
    field::Symbol
    mirror::Any
end

array(tensor::Tensor) = getproperty(tensor.leaf, tensor.field)
gradient(tensor::Tensor) = below(tensor.mirror, tensor.field)
statistic(tensor::Tensor) = occursin(".running_", tensor.name)

"All tensors of a layer by their unit's names; `mirror` is a gradient of the same structure."
function tensors(unit::Unit, layer, mirror = nothing)
    unit.kind === :own && return arrays_of(unit.name, layer, mirror)
    found = Tensor[]
    for (wanted, (leaf, inner)) in zip(unit.layers, leaves(layer, mirror))
        for (suffix, field) in FIELDS[wanted.op]
            field === :bias && !has_bias(leaf) && continue
            joint = isempty(suffix) ? "" : wanted.joint
            push!(found, Tensor(wanted.name * joint * suffix, leaf, field, inner))
        end
    end
    return found
end

function tensors(net::Network)
    each = [tensors(unit, layer) for (unit, layer) in zip(net.units, net.chain.layers)]
    return reduce(vcat, each; init = Tensor[])
end

"Names and arrays of the tail's trainable tensors."
function parameters(net::Network)
    found = Pair{String, Any}[]
    for i in (net.cut + 1):length(net.units)
        for tensor in tensors(net.units[i], net.chain.layers[i])
            statistic(tensor) || push!(found, tensor.name => array(tensor))
        end
    end
    return found
end

# To torchvision's layout, as its column-major mirror image, and back.
outside(x::AbstractArray{<:Real, 4}) = x[end:-1:1, end:-1:1, :, :]
outside(x::AbstractMatrix) = permutedims(x)
outside(x::AbstractArray) = copy(x)
inside(x) = outside(x) # each is its own inverse

outside_size(x::AbstractMatrix) = reverse(size(x))
outside_size(x) = size(x)

"""
Copies of all tensors by torchvision's names, each in the column-major mirror image of torchvision's
layout: a convolution (kW, kH, I, O), a Dense weight (in, out).
"""
state(net::Network) = Dict{String, Array{Float32}}(t.name => outer(t) for t in tensors(net))

outer(tensor::Tensor) = Array(outside(array(tensor)))

"""
Replace all tensors by those of `state` (name => array, laid out as `state` returns them). Strict:
names, counts and shapes are compared before the first write.
"""
function load!(net::Network, state::AbstractDict)
    wanted = tensors(net)
    check(state, [t.name => outside_size(array(t)) for t in wanted])
    foreach(t -> copyto!(array(t), inside(state[t.name])), wanted)
    forget!(net, eachindex(net.units))
    return net
end

function check(state, wanted)
    for (name, size) in wanted
        haskey(state, name) || throw(ArgumentError("weights lack '$name'"))
        Base.size(state[name]) == size ||
            throw(DimensionMismatch(
                "weights: '$name' must have size $size, got $(Base.size(state[name]))",
            ))
    end
    names = Set(first.(wanted))
    for name in keys(state)
        name in names || throw(ArgumentError("weights hold '$name', which the network has not"))
    end
    return nothing
end

"Published weights that are on this machine but cannot be read."
struct BrokenArtifact <: Exception
    reason::String
    folders::Vector{String}
end

function Base.showerror(io::IO, error::BrokenArtifact)
    print(io, "BrokenArtifact: Metalhead's weights are here but cannot be read: ", error.reason)
    places = isempty(error.folders) ?
        "their folder in " * artifacts_folder() :
        join(error.folders, " and ")
    return print(io, ". Delete ", places, " and try again")
end

artifacts_folder() = joinpath(first(DEPOT_PATH), "artifacts")

"""
Build a plan's network with Metalhead's published ImageNet weights. The download runs in a task of
its own: it can hang where there is no network, so `deadline_s` ends the wait.
"""
function pretrained(plan::Plan; deadline_s = 600)
    download = @async Network(plan; pretrain = true)
    timedwait(() -> istaskdone(download), deadline_s; pollint = 0.1) === :ok ||
        error("the download of Metalhead's weights did not end within $deadline_s s")
    istaskfailed(download) && throw(failure(plan, reasons(download)))
    return fetch(download)
end

reasons(task::Task) = unique(sprint(showerror, entry[1]) for entry in current_exceptions(task))

# Metalhead answers every failure of the download with "No pre-trained weights available"; the reason
# lies below it. Any other failure came after the download.
function failure(plan, reasons)
    text = join(reverse(reasons), "; caused by: ")
    any(contains("No pre-trained weights available"), reasons) && return ErrorException(text)
    return BrokenArtifact(text, artifacts_of(plan))
end

"Folders of the artifacts on this machine that bear the name of the plan's network."
function artifacts_of(plan)
    rows = TOML.parsefile(joinpath(pkgdir(Metalhead), "Artifacts.toml"))
    wanted = lowercase(plan.constructor * join(plan.arguments))
    folders = [
        joinpath(depot, "artifacts", row["git-tree-sha1"])
        for (name, row) in rows
        if startswith(replace(lowercase(name), "_" => ""), wanted)
        for depot in DEPOT_PATH
    ]
    return sort(filter(isdir, folders))
end
