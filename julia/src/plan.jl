# What to build, as data. The plan is written by whoever owns the table of architectures; there is
# no second table here.

"""
A parameterised leaf: torchvision's name, what it is (`:conv`, `:norm`, `:dense`, `:layernorm`,
`:scale`, `:token`), and the shape of its weight in torchvision's order, e.g.
`[out, in ÷ groups, k, k]`. `joint` stands between the name and "weight" or "bias", `momentum` is the
weight of a new batch in a BatchNorm's statistics. An `:array` is one tensor of the layer's own name.
"""
struct Layer
    name::String
    op::Symbol
    shape::Vector{Int}
    bias::Bool
    joint::String
    momentum::Float64
end

Layer(name, op, shape, bias, joint = ".") = Layer(name, op, shape, bias, joint, 0.1)

"One operation of a block, with its numbers, the layer it holds, the nodes it joins."
struct Node
    op::Symbol
    options::Dict{String, Any}
    layer::Union{Layer, Nothing}
    nodes::Vector{Node}
end

"""
One step of a network: how it is computed, with which numbers, and the leaves it holds, in order. A
unit of kind `:block` computes its `body`, a tree of operations; one of kind `:own` is a layer that no
plan describes.
"""
struct Unit
    name::String
    kind::Symbol
    stage::String
    options::Dict{String, Any}
    layers::Vector{Layer}
    body::Union{Node, Nothing}
end

Unit(name, kind, stage, options, layers) = Unit(name, kind, stage, options, layers, nothing)

"""
What a network is built from: Metalhead's constructor (empty where Metalhead has none) with its
arguments, and the units in order. `own` is the call that makes the layers of units of kind `:own`.
"""
struct Plan
    constructor::String
    arguments::Vector{Any}
    keywords::Dict{Symbol, Any}
    units::Vector{Unit}
    own::String
end

Plan(constructor, arguments, keywords, units) = Plan(constructor, arguments, keywords, units, "")

"A plan as tables: its text is TOML, that of a network of one's own JSON."
plan_row(text::AbstractString) = startswith(text, '{') ?
    parse_json(String(text), why -> throw(ArgumentError("the plan $why"))) :
    TOML.parse(text)

"Read a plan from its text."
function parse_plan(text::AbstractString)
    row = plan_row(text)
    keywords = Dict{Symbol, Any}(Symbol(k) => v for (k, v) in row["keywords"])
    units = Unit[parse_unit(unit) for unit in row["units"]]
    own = get(row, "own", "")
    return Plan(row["constructor"], Vector{Any}(row["arguments"]), keywords, units, own)
end

function parse_unit(row)
    body = haskey(row, "body") ? parse_node(row["body"]) : nothing
    layers = body === nothing ? Layer[parse_layer(each) for each in row["layers"]] : held(body)
    return Unit(row["name"], Symbol(row["kind"]), row["stage"], row["options"], layers, body)
end

parse_layer(row) = Layer(
    row["name"],
    Symbol(row["op"]),
    Vector{Int}(row["shape"]),
    row["bias"],
    get(row, "joint", "."),
    get(row, "momentum", 0.1),
)

parse_node(row) = Node(
    Symbol(row["op"]),
    get(() -> Dict{String, Any}(), row, "options"),
    haskey(row, "layer") ? parse_layer(row["layer"]) : nothing,
    Node[parse_node(each) for each in get(() -> [], row, "nodes")]
)

"The layers of a tree in order of computation, branch after branch."
function held(node::Node)
    found = node.layer === nothing ? Layer[] : Layer[node.layer]
    return foldl((layers, inner) -> append!(layers, held(inner)), node.nodes; init = found)
end

"Stage names in order."
stages(units) = unique(unit.stage for unit in units)
