# Networks of one's own: layers that no plan describes, made by a call. Each layer of their flat chain is
# a unit of kind `:own`, and its tensors are the arrays that are found in it.

const OWN = "julia:" # ahead of the call, where architectures are named
const MODULES = "PYFLUX_JULIA_MODULES" # environment variable: modules, by commas, that a call may name

"""
    Network(trunk::Chain, head; name = "", side = 224, device = Flux.cpu_device())

A network of any Flux layers: `head` is a layer or a `Chain`, its output (classes, N). Chains are opened,
each layer becomes a unit, each layer of `trunk` a stage; arrays are shared. Images of `side` × `side` are
run once to see what each layer takes and gives. It is cut, trained and run as any other; with a `name`
it can be saved, see [`Classifier`](@ref).

Throws `ArgumentError` for layers that hold arrays of another type than `Float32`, share arrays, or give
something other than one array.

```julia
net = Network(backbone, Chain(GlobalMeanPool(), Flux.flatten, Dense(512 => 3)); name = "MyNets.small")
```
"""
function Network(
    trunk::Chain,
    head;
    name::AbstractString = "",
    side::Integer = 224,
    device = Flux.cpu_device(),
)
    named = named_layers(trunk, head)
    units = own_units(named, zeros(Float32, side, side, 3, 1))
    chain = Chain(Any[layer for (_, _, layer) in named])
    return Network(units, on_device(device, chain), device, String(name))
end

"""
    Classifier(net::Network, classes; preprocessing = Preprocessing())

A network of own layers as a classifier, which is saved, opened and asked like any other. The bundle holds
the network's name and its tensors; its layers are made by whoever opens it: `PyFluxTransfer.open(path; own)`.

```julia
model = Classifier(net, ["ants", "bees", "wasps"])
PyFluxTransfer.save("own.safetensors", model)
again = PyFluxTransfer.open("own.safetensors"; own = () -> (backbone, head))
```
"""
function Classifier(net::Network, classes; preprocessing::Preprocessing = Preprocessing())
    isempty(net.own) &&
        throw(ArgumentError(
            "a network of own layers needs a name to be saved by: Network(trunk, head; name = \"…\"). Any " *
                "other comes from PyFluxTransfer.open or with_head",
        ))
    names, outputs = checked_names(collect(String, classes)), PyFluxTransfer.classes(net)
    length(names) == outputs ||
        throw(ArgumentError("$(length(names)) names of classes for $outputs outputs"))
    header = Dict{String, Any}(
        "format" => FORMAT,
        "architecture" => OWN * net.own,
        "classes" => names,
        "head" => nothing,
        "preprocessing" => preprocessing_row(preprocessing),
        "cut" => net.cut,
        "info" => Dict{String, Any}(),
        "temperature" => 1.0,
        "plan" => own_text(net),
        "belonging" => nothing,
    )
    info = Dict{String, Any}("engine" => "flux")
    none = Dict{String, Array{Float32}}()
    return Classifier(net, names, preprocessing, 1.0, header["architecture"], info, header, none)
end

# --- from a model to units ----------------------------------------------------------------------------

"Trunk and head of what a constructor returns: a pair, a Chain whose last layer is the head, a network of Metalhead's."
parts(model::Tuple{Chain, Any}) = model

function parts(model::Chain)
    length(model) >= 2 || throw(ArgumentError("a Chain of one layer has no trunk and head"))
    return model[1:(end - 1)], model[end]
end

function parts(model)
    hasproperty(model, :layers) && model.layers isa Chain && return parts(model.layers)
    throw(ArgumentError(
        "a constructor must return a pair of trunk (a Chain) and head, a Chain that ends with its head, or a " *
            "network of Metalhead's, got a $(nameof(typeof(model)))",
    ))
end

"Name, stage and layer of each unit. Each Dropout has a generator of its own."
function named_layers(trunk::Chain, head)
    rows = Tuple{String, String, Any}[]
    for (i, layer) in enumerate(trunk.layers)
        foreach(
            ((name, inner),) -> push!(rows, (name, "stage$i", inner)),
            opened("trunk.$i", layer),
        )
    end
    foreach(
        ((name, inner),) -> push!(rows, (name, "head", inner)),
        opened("head", head isa Chain ? head : Chain(head)),
    )
    return [
        (name, stage, rebuilt(identity, Flux.cpu_device(), layer))
        for (name, stage, layer) in rows
    ]
end

opened(name, layer) = Any[(name, layer)]
opened(name, chain::Chain) = reduce(
    vcat,
    [opened("$name.$i", layer) for (i, layer) in enumerate(chain.layers)];
    init = Any[],
)

function own_units(named, x)
    units, seen = Unit[], Base.IdSet{Any}()
    for (name, stage, layer) in named
        tensors = arrays_of(name, layer)
        for tensor in tensors
            array(tensor) in seen &&
                throw(ArgumentError("'$(tensor.name)' is an array that another layer uses, too"))
            push!(seen, array(tensor))
        end
        y = in_test_mode(() -> layer(x), layer)
        y isa AbstractArray{Float32} && ndims(y) in 2:4 ||
            throw(ArgumentError("unit $name must give Float32 of 2 to 4 axes, got $(summary(y))"))
        options = Dict{String, Any}(
            "in" => size(x, channel_axis(x)),
            "out" => size(y, channel_axis(y)),
            "axes" => ndims(x),
            "ends" => ndims(y),
        )
        push!(units, Unit(name, :own, stage, options, array_layer.(tensors)))
        x = y
    end
    ndims(x) == 2 || throw(ArgumentError("the head must give (classes, N), got $(summary(x))"))
    return units
end

array_layer(tensor::Tensor) = Layer(
    tensor.name,
    :array,
    reverse(collect(outside_size(array(tensor)))),
    false,
)

# --- the arrays of any layer --------------------------------------------------------------------------

const NORM_NAMES = Dict(:γ => "weight", :β => "bias", :μ => "running_mean", :σ² => "running_var")

"""
The arrays of a layer as tensors, named by the fields that lead to them; what training leaves as it is has
"running_" ahead of its field's name. `mirror` is a gradient of the same structure, or nothing.
"""
function arrays_of(name, holder, mirror = nothing)
    found = Tensor[]
    trained = Optimisers.trainable(holder)
    children = Functors.children(holder)
    for key in keys(children)
        part = children[key]
        part isa Random.AbstractRNG && continue
        inner = key === :layers ? name : "$name.$key"
        if part isa AbstractArray{<:Number}
            isempty(part) && continue
            holder isa Union{Tuple, AbstractArray, AbstractDict} &&
                throw(ArgumentError("'$inner' is an array outside a layer's fields"))
            part isa AbstractArray{Float32} ||
                throw(ArgumentError(
                    "'$inner' must hold Float32, got $(eltype(part)). Use Flux.f32",
                ))
            learns = haskey(trained, key) && trained[key] !== nothing
            push!(found, Tensor("$name.$(array_name(holder, key, learns))", holder, key, mirror))
        else
            append!(found, arrays_of(inner, part, below(mirror, key)))
        end
    end
    return found
end

function array_name(holder, key, learns)
    hasproperty(holder, :σ²) && haskey(NORM_NAMES, key) && return NORM_NAMES[key]
    return learns ? string(key) : "running_$key"
end

# --- calls --------------------------------------------------------------------------------------------

"""
The module, the constructor, the arguments and the keywords of a call such as
`Metalhead.SEResNet(50; cardinality = 4)`. It is read, not run: arguments are literals.
"""
function parsed_call(text)
    refuse() = throw(ArgumentError(
        "'$text' is no call of a constructor with plain values, as Metalhead.SEResNet(50) or MyNets.small",
    ))
    said = Meta.parse(text; raise = false)
    said isa Expr && said.head === :call || (said = Expr(:call, said))
    named(part) = part isa Expr && part.head in (:kw, :parameters)
    place, given = said.args[1], said.args[2:end]
    place isa Expr &&
        place.head === :. &&
        place.args[1] isa Symbol &&
        place.args[2] isa QuoteNode ||
        refuse()
    arguments = Any[literal(part, refuse) for part in given if !named(part)]
    keywords = Dict{Symbol, Any}()
    for part in Iterators.flatten(
            part.head === :kw ? [part] : part.args
            for part in given
            if named(part)
        )
        part isa Expr && part.head === :kw || refuse()
        keywords[part.args[1]] = literal(part.args[2], refuse)
    end
    return place.args[1], place.args[2].value, arguments, keywords
end

literal(x::Union{Int, Float64, Bool, String}, refuse) = x
literal(x::QuoteNode, refuse) = x.value isa Symbol ? x.value : refuse()
function literal(x, refuse)
    x isa Expr && x.head in (:tuple, :vect) || return refuse()
    items = [literal(part, refuse) for part in x.args]
    return x.head === :tuple ? Tuple(items) : items
end

"The module of a call: Metalhead, or one that the user's environment allows."
function module_named(name::Symbol)
    name === :Metalhead && return Metalhead
    allowed = strip.(split(get(ENV, MODULES, ""), ','; keepempty = false))
    string(name) in allowed ||
        throw(ArgumentError(
            "the module $name is not allowed to make networks. Name it in the environment variable $MODULES, " *
                "or give the constructor: PyFluxTransfer.open(path; own = …)",
        ))
    package = Base.identify_package(string(name))
    package === nothing &&
        throw(ArgumentError("the module $name is not on Julia's load path, $(Base.load_path())"))
    return Base.require(package)
end

"Load the module that a plan's own layers come from."
load_module(plan::Plan) = isempty(plan.own) ? nothing : module_named(first(parsed_call(plan.own)))

"What a call makes. Without `pretrain` no published weights are fetched."
function called(text; pretrain = true)
    home, name, arguments, keywords = parsed_call(text)
    package = module_named(home)
    known = Base.invokelatest(names, package)
    name in known && isdefined(package, name) ||
        throw(ArgumentError("the module $home exports no '$name'"))
    make = getproperty(package, name)
    package !== Metalhead ||
        make isa Type ||
        throw(ArgumentError("Metalhead has no network '$name'"))
    pretrain || delete!(keywords, :pretrain)
    return Base.invokelatest(make, arguments...; keywords...)
end

"The chain of a plan over the layers that `own`, or the plan's call, makes."
function own_chain(plan::Plan, own = nothing)
    model = own === nothing ? called(plan.own; pretrain = false) : own()
    layers = Dict(name => layer for (name, _, layer) in named_layers(parts(model)...))
    return Chain(
        Any[unit.kind === :own ? taken(layers, unit, plan.own) : make(unit) for unit in plan.units]
    )
end

function taken(layers, unit::Unit, call)
    layer = get(layers, unit.name, nothing)
    layer === nothing && throw(ArgumentError("$call makes no layer '$(unit.name)'"))
    wanted, got = (
        [(l.name, l.shape) for l in each]
        for each in (unit.layers, array_layer.(arrays_of(unit.name, layer)))
    )
    wanted == got ||
        throw(DimensionMismatch(
            "unit $(unit.name): $call makes another layer than the one described",
        ))
    return layer
end

# --- the plan as text ---------------------------------------------------------------------------------

"The plan of a network of one's own; \"all\" are the units of its call, whatever head it has now."
function own_text(net::Network)
    rows = unit_row.(net.units)
    return JSON.json(Dict(
        "constructor" => "",
        "arguments" => [],
        "keywords" => Dict{String, Any}(),
        "own" => net.own,
        "all" => rows,
        "units" => rows,
    ))
end

unit_row(unit::Unit) = Dict(
    "name" => unit.name,
    "kind" => string(unit.kind),
    "stage" => unit.stage,
    "options" => unit.options,
    "layers" => [
        Dict("name" => l.name, "op" => string(l.op), "shape" => l.shape, "bias" => l.bias)
        for l in unit.layers
    ],
)
