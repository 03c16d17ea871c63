# Metalhead's networks as flat chains of units. Its layers are taken as they are, arrays shared, and
# matched with the plan's units by structure and shape.
#
# Where Metalhead differs from the networks that torchvision's weights are for:
# - VGG with BatchNorm has convolutions without bias: those units are made of Flux layers.
# - VGG has no adaptive pooling before its classifier, SqueezeNet's pooling rounds down: pooling,
#   flatten and dropout hold no arrays and are always made from the plan.
# - A residual block's `Parallel` holds the shortcut first: `leaves` puts it last.
# - ViT takes the tanh approximation of gelu and squares the eps of its norms: its weights are taken,
#   its layers are not.

const Leaf = Union{Conv, BatchNorm, Dense, ChannelNorm, Factor, Learnt}

below(mirror, field::Symbol) = mirror === nothing ? nothing : getproperty(mirror, field)
below(mirror, index::Integer) = mirror === nothing ? nothing : mirror[index]

"""
The parameterised leaves of a layer in order of computation, a residual block's shortcut last, each
with its counterpart in `mirror` (a gradient of the same structure, or nothing).
"""
leaves(layer::Leaf, mirror = nothing) = Any[(layer, mirror)]
leaves(@nospecialize(layer), mirror = nothing) = Any[]
leaves(layer::Chain, mirror = nothing) = reduce(vcat, branches(layer, mirror); init = Any[])
leaves(layer::SkipConnection, mirror = nothing) = leaves(layer.layers, below(mirror, :layers))
# The longest branch is the block.
leaves(layer::Parallel, mirror = nothing) = reduce(
    vcat,
    sort(branches(layer, mirror); by = length, rev = true);
    init = Any[],
)

# Those of a tree, or side by side, keep their order.
leaves(
    layer::Parallel{<:Union{Ordered, typeof(Metalhead.cat_channels)}},
    mirror = nothing,
) = reduce(vcat, branches(layer, mirror); init = Any[])
leaves(layer::Pointwise, mirror = nothing) = leaves(layer.dense, below(mirror, :dense))
leaves(layer::Embed, mirror = nothing) = Any[
    (layer.token, below(mirror, :token)),
    (layer.position, below(mirror, :position)),
]

function branches(layer, mirror)
    inner = below(mirror, :layers)
    return [leaves(layer.layers[i], below(inner, i)) for i in 1:length(layer.layers)]
end

"The parameterised steps of a network in order; chains are opened, residual blocks stay whole."
pieces(layer) = isempty(leaves(layer)) ? Any[] : Any[layer]
pieces(layer::Chain) = reduce(vcat, [pieces(inner) for inner in layer.layers]; init = Any[])

operation(::Conv) = :conv
operation(::BatchNorm) = :norm
operation(::Dense) = :dense
operation(::ChannelNorm) = :layernorm
operation(::Factor) = :scale
operation(::Learnt) = :token

# Shape of the weight in torchvision's order.
shape(leaf::Conv) = reverse(collect(size(leaf.weight)))
shape(leaf::BatchNorm) = [leaf.chs]
shape(leaf::Dense) = collect(size(leaf.weight))
shape(leaf::ChannelNorm) = [length(leaf.weight)]
shape(leaf::Union{Factor, Learnt}) = reverse(collect(size(leaf.value)))

has_bias(leaf::BatchNorm) = leaf.affine
has_bias(leaf::Union{Factor, Learnt}) = false
has_bias(leaf) = leaf.bias isa AbstractArray

fits(leaf, layer::Layer) = operation(leaf) == layer.op &&
    shape(leaf) == layer.shape &&
    has_bias(leaf) == layer.bias

"Whether a layer holds exactly the leaves that a unit describes."
function fits(layer, unit::Unit)
    held = leaves(layer)
    return length(held) == length(unit.layers) &&
        all(fits(leaf, wanted) for ((leaf, _), wanted) in zip(held, unit.layers))
end

"""
Take the pieces that make up `unit` from the front of `queue`; nothing, with the queue untouched,
where they do not fit.
"""
function take_unit!(queue, unit::Unit)
    count, held = 0, 0
    while held < length(unit.layers) && count < length(queue)
        count += 1
        held += length(leaves(queue[count]))
    end
    count == 0 && return nothing
    layer = count == 1 ? queue[1] : Chain(queue[1:count]...)
    fits(layer, unit) || return nothing
    deleteat!(queue, 1:count)
    return layer
end

# A convolution with both bias and BatchNorm is torchvision's VGG; Metalhead's has no bias.
only_in_plan(unit::Unit) = unit.kind === :conv &&
    get(unit.options, "bias", false) &&
    get(unit.options, "norm", false)

function layer_for!(queue, unit::Unit, known::Bool)
    isempty(unit.layers) && return make(unit)
    taken = take_unit!(queue, unit)
    taken === nothing || return taken
    if only_in_plan(unit) && known
        length(queue) >= 2 && deleteat!(queue, 1:2) # Metalhead's convolution and its norm
        return make(unit)
    end
    known &&
        unit.stage != "head" &&
        throw(DimensionMismatch(
            "unit $(unit.name): Metalhead's layer is not what the plan describes",
        ))
    return make(unit)
end

"Metalhead's network of a plan, with a random start or (`pretrain`) its published weights."
function metalhead(plan::Plan; pretrain = false)
    constructor = getproperty(Metalhead, Symbol(plan.constructor))
    keywords = (name => argument(value) for (name, value) in plan.keywords)
    return constructor(argument.(plan.arguments)...; pretrain, keywords...)
end

# A plan has neither symbols nor tuples.
argument(value) = value
argument(value::AbstractString) = Symbol(value)
argument(value::AbstractVector) = Tuple(value)

# Networks whose weights are torchvision's while their layers compute otherwise.
const WEIGHTS_ALONE = ("ViT",)

"""
Build a plan's network as a `Chain` with one layer a unit. A vector holds them: it compiles faster
than a tuple. What Metalhead lacks or computes otherwise is made of Flux layers.
"""
function build(plan::Plan; pretrain = false, own = nothing)
    isempty(plan.own) || return own_chain(plan, own)
    isempty(plan.constructor) && return chain_of(plan, nothing)
    plan.constructor in WEIGHTS_ALONE || return chain_of(plan, metalhead(plan; pretrain))
    chain = chain_of(plan, nothing)
    pretrain && take_weights!(chain, metalhead(plan; pretrain))
    return chain
end

"Copy the arrays of Metalhead's `model`, which come in the order of ours."
function take_weights!(chain::Chain, model)
    ours, theirs = Flux.trainables(chain), Flux.trainables(model.layers)
    fit = length(ours) == length(theirs) &&
        all(length(a) == length(b) for (a, b) in zip(ours, theirs))
    fit || throw(DimensionMismatch("Metalhead's weights are not what the plan describes"))
    foreach(copyto!, ours, theirs)
    return chain
end

"The chain of a plan over the layers of Metalhead's `model`, which it shares, or over none."
function chain_of(plan::Plan, model)
    known = model !== nothing
    queue = known ? pieces(model.layers) : Any[]
    chain = Chain(Any[layer_for!(queue, unit, known) for unit in plan.units])
    for (layer, unit) in zip(chain.layers, plan.units)
        fits(layer, unit) ||
            throw(DimensionMismatch("unit $(unit.name): the layer is not what the plan describes"))
    end
    return chain
end
