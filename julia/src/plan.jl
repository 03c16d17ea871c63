# What to build, as data. The plan is written by whoever owns the table of architectures; there is
# no second table here.

"""
A parameterised leaf: torchvision's name, `:conv`, `:norm` or `:dense`, and the shape of its weight
in torchvision's order, e.g. `[out, in ÷ groups, k, k]`.
"""
struct Layer
    name::String
    op::Symbol
    shape::Vector{Int}
    bias::Bool
end

"One step of a network: how it is computed, with which numbers, and the leaves it holds, in order."
struct Unit
    name::String
    kind::Symbol
    stage::String
    options::Dict{String, Any}
    layers::Vector{Layer}
end

"""
What a network is built from: Metalhead's constructor (empty where Metalhead has none) with its
arguments, and the units in order.
"""
struct Plan
    constructor::String
    arguments::Vector{Any}
    keywords::Dict{Symbol, Any}
    units::Vector{Unit}
end

"Read a plan from its TOML text."
function parse_plan(text::AbstractString)
    row = TOML.parse(text)
    keywords = Dict{Symbol, Any}(Symbol(k) => v for (k, v) in row["keywords"])
    units = Unit[parse_unit(unit) for unit in row["units"]]
    return Plan(row["constructor"], Vector{Any}(row["arguments"]), keywords, units)
end

function parse_unit(row)
    layers = Layer[
        Layer(leaf["name"], Symbol(leaf["op"]), Vector{Int}(leaf["shape"]), leaf["bias"])
        for leaf in row["layers"]
    ]
    return Unit(row["name"], Symbol(row["kind"]), row["stage"], row["options"], layers)
end

"Stage names in order."
stages(units) = unique(unit.stage for unit in units)
