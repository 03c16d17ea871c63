# The bundle: a trained classifier in one .safetensors file, whose header holds everything but the
# weights as JSON. Python writes and reads the same.

const KEY = "pyflux_transfer" # of the header's metadata
const FORMAT = 5              # 3 has no belonging; that of 4 is another, which only Python reads
const FIELDS_OF_HEADER = Set((
    "format",
    "architecture",
    "classes",
    "head",
    "preprocessing",
    "cut",
    "info",
    "temperature",
    "plan",
    "belonging",
))
const BELONGING = "belonging." # begins the names of its tensors, which are no weights

"""
A trained classifier, complete; `PyFluxTransfer.open` makes one.

| field | what |
|:--|:--|
| `net` | the [`Network`](@ref); `net.chain` is a Flux `Chain`, a layer a unit |
| `classes` | names in the order of the outputs |
| `preprocessing` | how images become its input: [`Preprocessing`](@ref) |
| `temperature` | logits are divided by it before the softmax |
| `architecture` | its name in Python's catalog |
| `info` | of its making (engine, versions, date, training); not needed to use it |
| `header` | the file's header as it was read |
| `belonging` | what tells photos that are none of the classes, tensors that are kept for Python |

`temperature`, `info` and `preprocessing` may be set, and are saved.
"""
mutable struct Classifier
    const net::Network
    const classes::Vector{String}
    preprocessing::Preprocessing
    temperature::Float64
    const architecture::String
    info::Dict{String, Any}
    const header::Dict{String, Any}
    const belonging::Dict{String, Array{Float32}}
end

function Base.show(io::IO, model::Classifier)
    names = length(model.classes) > 5 ? [model.classes[1:4]; "…"] : model.classes
    return print(
        io,
        "Classifier(",
        model.architecture,
        ", ",
        length(model.net.units),
        " units, ",
        length(model.classes),
        " classes: ",
        join(names, ", "),
        ")",
    )
end

"""
    PyFluxTransfer.open(path; device = Flux.cpu_device(), own = nothing) -> Classifier

Read a bundle, the network with its weights on `device` and everything else that its header tells.
Needs no Python. Nothing in the file is run. A network of own layers is built by `own`, a function without
arguments that returns its trunk and head; without it by the call that the file names, where that is one
of Metalhead's or of a module in the environment variable `PYFLUX_JULIA_MODULES`.

Throws `ArgumentError` where no file is, and [`BundleError`](@ref) for a damaged file, another format,
a field that cannot be, and tensors that are missing, misshaped or no numbers. Bundles of format 1 and 2
have no plan in them: open and save such a file once with the present Python version.

```julia
model = PyFluxTransfer.open("bees.safetensors")
classify(model, load("bee.jpg"))        # FileIO's load, or any matrix of colours
```
"""
function open(path::AbstractString; device = Flux.cpu_device(), own = nothing)
    tensors, metadata = read_tensors(path)
    haskey(metadata, KEY) ||
        throw(BundleError(
            "$path holds bare weights, not a bundle. Load them with load!(net, read_tensors(path)[1]).",
        ))
    refuse(why) = throw(BundleError("$path: the description $why"))
    header = parse_json(metadata[KEY], refuse)
    check_header(path, header)
    names = field(header, "classes", Vector, refuse)
    all(name -> name isa String && !isempty(strip(name)), names) && allunique(names) ||
        refuse("cannot be used (classes must be names that differ, got $names)")
    temperature = field(header, "temperature", Real, refuse)
    0 < temperature < Inf ||
        refuse("cannot be used (the temperature must be a positive number, got $temperature)")
    how = guarded(() -> read_preprocessing(header["preprocessing"]), refuse)
    plan = guarded(
        () -> checked(parse_plan(header["plan"]), sum(length, values(tensors); init = 0)),
        refuse,
    )
    guarded(() -> own === nothing && load_module(plan), refuse)
    # What a module has just brought is known to calls that begin now.
    net = guarded(() -> Base.invokelatest(Network, plan, device; own), refuse)
    guarded(() -> Base.invokelatest(cut_at!, net, header["cut"]), refuse)
    outputs = classes(net)
    length(names) == outputs ||
        throw(BundleError("$path names $(length(names)) classes for $outputs outputs."))
    damaged(why) = throw(BundleError("$path is damaged or was edited: its $why."))
    for (name, x) in tensors
        all(isfinite, x) || damaged("tensor '$name' holds NaN or infinite values")
    end
    beside = filter(pair -> startswith(first(pair), BELONGING), tensors)
    header["belonging"] === nothing || filter!(pair -> !startswith(first(pair), BELONGING), tensors)
    guarded(
        () -> Base.invokelatest(load!, net, tensors),
        why -> damaged("weights do not fit: $why"),
    )
    info = field(header, "info", AbstractDict, refuse)
    architecture = field(header, "architecture", String, refuse)
    return Classifier(net, names, how, temperature, architecture, info, header, beside)
end

function check_header(path, header)
    format = header isa AbstractDict ? get(header, "format", nothing) : nothing
    format isa Int || throw(BundleError("$path: the description names no format."))
    0 < format < 3 &&
        throw(BundleError(
            "$path is a bundle of format $format, which does not hold the network's plan. Open and save it " *
                "once with Python: pft.load(\"old.safetensors\").save(\"new.safetensors\").",
        ))
    format in 3:FORMAT ||
        throw(BundleError(
            "$path is a bundle of format $format; this version reads 3 to $FORMAT. Upgrade PyFluxTransfer.",
        ))
    format == 3 && get!(header, "belonging", nothing)
    strange = symdiff(FIELDS_OF_HEADER, keys(header))
    isempty(strange) ||
        throw(BundleError(
            "$path: fields $(join(sort!(collect(strange)), ", ")) are missing or unknown. Upgrade " *
                "PyFluxTransfer.",
        ))
    return nothing
end

function field(header, name, kind, refuse)
    value = header[name]
    value isa kind && !(kind === Real && value isa Bool) ||
        refuse("cannot be used ($name must be a $kind, got $(repr(value)))")
    return value
end

# What the file says is wrong, whatever it is that fails on it.
function guarded(work, refuse)
    return try
        work()
    catch error
        error isa Union{InterruptException, OutOfMemoryError} && rethrow()
        refuse("cannot be used (" * first(split(sprint(showerror, error), '\n')) * ")")
    end
end

const LARGEST = 1 << 20 # number in a plan that is made into a size

"""
A plan that a file brought, or an `ArgumentError`: it calls nothing but Metalhead's constructors, and
its layers hold as many numbers as the file.
"""
function checked(plan::Plan, count::Integer)
    name = Symbol(plan.constructor)
    isempty(plan.constructor) ||
        (name in names(Metalhead) && getproperty(Metalhead, name) isa Type) ||
        throw(ArgumentError("Metalhead has no network '$(plan.constructor)'"))
    settings = Any[plan.arguments; collect(values(plan.keywords))]
    foreach(unit -> append!(settings, values(unit.options)), plan.units)
    foreach(unit -> foreach(layer -> append!(settings, layer.shape), unit.layers), plan.units)
    all(small, settings) || throw(ArgumentError("its plan holds a number beyond 0 … $LARGEST"))
    held = sum(prod(
        Float64,
        layer.shape,
    ) for unit in plan.units for layer in unit.layers; init = 0.0)
    held <= count || throw(ArgumentError("its plan needs $held numbers, the file holds $count"))
    return plan
end

small(x::Integer) = 0 <= x <= LARGEST
small(x::AbstractVector) = all(small, x)
small(x::AbstractDict) = all(small, values(x))
small(x) = true

function read_preprocessing(row)
    known = fieldnames(Preprocessing)
    for name in keys(row)
        Symbol(name) in known || throw(ArgumentError("unknown field '$name' of preprocessing"))
    end
    values = (Symbol(name) => value isa Vector ? Tuple(value) : value for (name, value) in row)
    return Preprocessing(; values...)
end

# Python leaves `fit` out where it is the usual one.
preprocessing_row(how::Preprocessing) = Dict{String, Any}(
    string(name) => getproperty(how, name)
    for name in fieldnames(Preprocessing)
    if !(name === :fit && how.fit == "crop")
)

"""
    PyFluxTransfer.save(path, model::Classifier) -> path

Write a bundle: the network's weights as they are now and everything else that `model` holds. Python
opens it, with either engine. What was at `path` is replaced only when all is written. Throws
`ArgumentError` for weights that are no numbers: no prediction would mean anything.

```julia
PyFluxTransfer.save("better.safetensors", model)
```
"""
function save(path::AbstractString, model::Classifier)
    tensors = state(model.net)
    for (name, x) in tensors
        all(isfinite, x) || throw(ArgumentError("weights: '$name' holds NaN or infinite values"))
    end
    header = merge(
        model.header,
        Dict{String, Any}(
            "format" => FORMAT,
            "preprocessing" => preprocessing_row(model.preprocessing),
            "temperature" => model.temperature,
            "cut" => model.net.cut,
            "info" => model.info,
        ),
    )
    merge!(tensors, model.belonging)
    return write_tensors(path, tensors, Dict(KEY => JSON.json(header)))
end
