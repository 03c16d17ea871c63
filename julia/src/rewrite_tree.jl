# A block's tree as operations over slots. What follows a convolution or a dense layer (BatchNorm, a
# scale, the other branches of a sum, an activation) is done by it, and the branches of a
# concatenation write where they belong.

"A node with the Flux layer of its own layer."
struct Bound
    node::Node
    leaf::Any
    nodes::Vector{Bound}
end

"Bind the leaves, which come in the tree's order."
function bind(node::Node, leaves)
    leaf = node.layer === nothing ? nothing : popfirst!(leaves)
    return Bound(node, leaf, Bound[bind(inner, leaves) for inner in node.nodes])
end

op(bound::Bound) = bound.node.op

"Operations as they are emitted: the slots that are free, channels and places of those in use."
struct Emitter
    operations::Vector{Any}
    free::Vector{Int}
    channels::Dict{Int, Int}
    single::Set{Int} # slots that hold one place an image
end

"Columns of a slot that a result belongs into."
struct Goal
    slot::Int
    columns::UnitRange{Int}
    width::Int
end

# Thrown where a tree needs what is not known here; the unit's own layer then computes it.
struct Unknown <: Exception end

function rewrite_tree(unit::Unit, layer)
    bound = bind(unit.body, first.(leaves(layer)))
    e = Emitter(Any[], collect(2:SLOT_COUNT), Dict(1 => unit.options["in"]), Set{Int}())
    try
        result = emit!(e, bound, 1, true)
        return Rewritten(unit.name, e.operations, result, unit.options["ends"])
    catch error
        error isa Unknown || rethrow()
        return nothing
    end
end

function slot!(e::Emitter, channels; single = false)
    isempty(e.free) && throw(Unknown())
    slot = popfirst!(e.free)
    e.channels[slot] = channels
    single ? push!(e.single, slot) : delete!(e.single, slot)
    return slot
end

release!(e::Emitter, slot) = pushfirst!(e.free, slot)

"""
Emit a tree over slot `x`; the slot of the result. An `owned` slot may be changed, and is released or
returned; another stays as it is.
"""
function emit!(e::Emitter, bound::Bound, x, owned, goal = nothing)
    return op(bound) === :chain ?
        emit_chain!(e, bound.nodes, x, owned, goal) :
        emit_group!(e, Group([bound]), x, owned, goal)
end

function emit_chain!(e, nodes, x, owned, goal)
    isempty(nodes) && return placed!(e, x, owned, goal)
    groups = grouped(nodes)
    for (i, group) in enumerate(groups)
        y = emit_group!(e, group, x, owned, i == length(groups) ? goal : nothing)
        owned |= y != x
        x = y
    end
    return x
end

"A node with those behind it that are computed with it."
struct Group
    first::Bound
    norm::Union{Bound, Nothing}
    scale::Union{Bound, Nothing}
    activation::Any
end

function Group(nodes::Vector{Bound})
    held(wanted) = (
        i = findfirst(node -> op(node) === wanted, nodes[2:end]);
        i === nothing ? nothing : nodes[i + 1]
    )
    act = held(:act)
    f = act === nothing ? identity : in_vectors(activation_of(act.node))
    return Group(first(nodes), held(:norm), held(:scale), f)
end

# operation => those that it takes with it, in this order
const FOLLOWERS = Dict(
    :conv => (:norm, :scale, :act),
    :dense => (:scale, :act),
    :norm => (:act,),
    :add => (:act,),
)

function grouped(nodes)
    groups, i = Group[], 1
    while i <= length(nodes)
        j = i
        for wanted in get(FOLLOWERS, op(nodes[i]), ())
            j < length(nodes) && op(nodes[j + 1]) === wanted && (j += 1)
        end
        push!(groups, Group(nodes[i:j]))
        i = j + 1
    end
    return groups
end

function emit_group!(e, group, x, owned, goal)
    haskey(GROUPS, op(group.first)) || throw(Unknown())
    return GROUPS[op(group.first)](e, group, x, owned, goal)
end

"Bring a result where it belongs."
function placed!(e, x, owned, goal)
    goal === nothing && return x
    push!(e.operations, Place(x, goal.slot, goal.columns, goal.width))
    owned && release!(e, x)
    return goal.slot
end

"""
Emit an operation that keeps the channels of `x`, as `make(from, to)` gives it: in place where it may
be.
"""
function emit_in_place!(e, make, x, owned, goal)
    to = owned ? x : slot!(e, e.channels[x]; single = x in e.single)
    push!(e.operations, make(x, to))
    return placed!(e, to, true, goal)
end

"Emit an operation into a new slot."
function emit_new!(e, make, x, owned, goal; channels = e.channels[x], single = x in e.single)
    to = slot!(e, channels; single)
    push!(e.operations, make(x, to))
    owned && release!(e, x)
    return placed!(e, to, true, goal)
end

# --- convolutions and dense layers -------------------------------------------------------------------

"Weight (inputs, outputs) and bias of a group, with norm and scale in them."
function folded(group)
    leaf = group.first.leaf
    weight, bias = leaf isa Dense ?
        (permutedims(leaf.weight), copy(leaf.bias)) :
        fold(leaf, group.norm === nothing ? nothing : group.norm.leaf)
    group.scale === nothing && return weight, bias
    factor = vec(group.scale.leaf.value)
    return weight .* transpose(factor), bias .* factor
end

function depthwise(node::Node)
    node.op === :conv || return false
    out, inner = node.layer.shape
    return inner == 1 && node.options["groups"] == out > 1
end

emit_step!(e, group, x, owned, goal) = depthwise(group.first.node) ?
    emit_depthwise!(e, group, x, owned, goal) :
    emit_product!(e, group, x, owned, goal)

# Kernel, stride, padding (each across, down) and groups, as the plan tells them.
function geometry(node::Node)
    node.op === :dense && return (1, 1), 1, (0, 0), 1
    o, (_, _, high, wide) = node.options, node.layer.shape
    return (wide, high), o["stride"], (o["left"], o["above"]), o["groups"]
end

"Emit a matrix product into `goal`, or a new slot; `add` onto what lies there."
function emit_product!(e, group, x, owned, goal; add = false)
    weight, bias = folded(group)
    out = length(bias)
    kernel, stride, pad, groups = geometry(group.first.node)
    if goal === nothing
        goal = Goal(slot!(e, out; single = x in e.single && stays(kernel, stride, pad)), 1:out, out)
    end
    f, to = group.activation, goal.slot
    plain = Convolve(
        weight,
        bias,
        kernel,
        stride,
        false,
        pad,
        groups,
        f,
        x,
        to,
        goal.columns,
        goal.width,
        add,
    )
    tiled = kernel == (3, 3) && stride == 1 && pad == (1, 1) && groups == 1
    push!(e.operations, tiled && size(weight, 1) >= 9NARROW ? Winograd(plain) : plain)
    owned && x != to && release!(e, x)
    return to
end

# Whether one place stays one.
stays(kernel, stride, pad) = all(1 .+ 2 .* pad .- kernel .< stride)

function emit_depthwise!(e, group, x, owned, goal)
    weight, bias = folded(group)
    kernel, stride, pad, _ = geometry(group.first.node)
    make(from, to) = Depthwise(
        reshape(weight, kernel..., :),
        bias,
        kernel,
        stride,
        false,
        pad,
        group.activation,
        from,
        to,
    )
    return emit_new!(e, make, x, owned, goal; single = false)
end

# --- at each place by itself --------------------------------------------------------------------------

function emit_norm!(e, group, x, owned, goal)
    norm = group.first.leaf
    factor = norm.γ ./ sqrt.(norm.σ² .+ norm.ϵ)
    shift = norm.β .- norm.μ .* factor
    return emit_affine!(e, factor, shift, group.activation, x, owned, goal)
end

function emit_scale!(e, group, x, owned, goal)
    factor = vec(group.first.leaf.value)
    return emit_affine!(e, copy(factor), zero(factor), identity, x, owned, goal)
end

function emit_act!(e, group, x, owned, goal)
    f, channels = in_vectors(activation_of(group.first.node)), e.channels[x]
    return emit_affine!(e, ones(Float32, channels), zeros(Float32, channels), f, x, owned, goal)
end

emit_affine!(e, factor, shift, f, x, owned, goal) = emit_in_place!(
    e,
    (from, to) -> Affine(factor, shift, f, from, to),
    x,
    owned,
    goal,
)

function emit_layernorm!(e, group, x, owned, goal)
    norm = group.first.leaf
    make(from, to) = Normalise(copy(norm.weight), copy(norm.bias), norm.eps, from, to)
    return emit_in_place!(e, make, x, owned, goal)
end

# --- others -------------------------------------------------------------------------------------------

function emit_window!(e, group, x, owned, goal)
    node = group.first.node
    make(from, to) = node.op === :meanpool ?
        Average(window(node)..., from, to) :
        Maximum(window(node)..., node.options["ceil"], from, to)
    return emit_new!(e, make, x, owned, goal)
end

emit_mean!(e, group, x, owned, goal) = emit_new!(e, Mean, x, owned, goal; single = true)

# The channels of one place are the vector already.
emit_flat!(e, group, x, owned, goal) = x in e.single ? placed!(e, x, owned, goal) : throw(Unknown())

function emit_pick!(e, group, x, owned, goal)
    rest = op(group.first) === :rest
    return emit_new!(e, (from, to) -> Pick(rest, from, to), x, owned, goal; single = true)
end

function emit_attend!(e, group, x, owned, goal)
    heads = group.first.node.options["heads"]
    make(from, to) = Attention(heads, from, to)
    return emit_new!(e, make, x, owned, goal; channels = e.channels[x] ÷ 3)
end

function emit_embed!(e, group, x, owned, goal)
    token, position = (Learnt(copy(inner.leaf.value)) for inner in group.first.nodes)
    o = group.first.node.options
    embed = Embed(token, position, o["side"], Float64(o["offset"]), o["aligned"])
    return emit_new!(e, (from, to) -> Tokens(embed, from, to), x, owned, goal; single = false)
end

# --- branches -----------------------------------------------------------------------------------------

branch(bound::Bound) = op(bound) === :chain ? bound.nodes : [bound]

"The groups of a branch that ends with a product which can add, or nothing."
function adding(bound::Bound)
    groups = grouped(branch(bound))
    isempty(groups) && return nothing
    last = groups[end]
    bare = last.activation === identity && op(last.first) in (:conv, :dense)
    return bare && !depthwise(last.first.node) ? groups : nothing
end

"""
The last branch that ends with a product adds itself to the others; where there is none, they are
added one by one.
"""
function emit_add!(e, group, x, owned, goal)
    nodes, f = group.first.nodes, group.activation
    last = findlast(inner -> adding(inner) !== nothing, nodes)
    if last === nothing
        y = emit_combined!(e, +, f, nodes, x)
    else
        y = emit_combined!(e, +, identity, deleteat!(copy(nodes), last), x)
        groups = adding(nodes[last])
        from = emit_groups!(e, groups[1:(end - 1)], x)
        # What is added to must be nobody else's, and not what the product reads.
        y == x && (!owned || from == x) && (y = copied!(e, x))
        step = Group(groups[end].first, groups[end].norm, groups[end].scale, f)
        channels = e.channels[y]
        emit_product!(e, step, from, from != x, Goal(y, 1:channels, channels); add = true)
    end
    owned && y != x && release!(e, x)
    return placed!(e, y, owned || y != x, goal)
end

function emit_groups!(e, groups, x)
    from = x
    for group in groups
        from = emit_group!(e, group, from, from != x, nothing)
    end
    return from
end

copied!(e, x) = emit_new!(
    e,
    (from, to) -> Place(from, to, 1:e.channels[x], e.channels[x]),
    x,
    false,
    nothing,
)

"Emit all branches over `x`, which stays as it is, and join them; the largest comes first."
function emit_combined!(e, join, f, nodes, x)
    slots = [emit!(e, inner, x, false) for inner in nodes]
    sort!(slots; by = in(e.single)) # one place an image is spread over those of another
    y = popfirst!(slots)
    for (i, other) in enumerate(slots)
        last = i == length(slots) ? f : identity
        to = y == x ? slot!(e, e.channels[x]; single = x in e.single) : y
        push!(e.operations, Combine(join, last, other, y, to))
        other == x || release!(e, other)
        y = to
    end
    return y
end

# The most frequent product: an image's channels are weighed by what a branch tells.
function emit_multiply!(e, group, x, owned, goal)
    nodes = group.first.nodes
    gate = findfirst(inner -> !isempty(branch(inner)), nodes)
    if owned && length(nodes) == 2 && gate !== nothing && isempty(branch(nodes[3 - gate]))
        weights = emit!(e, nodes[gate], x, false)
        push!(e.operations, Combine(*, identity, weights, x, x))
        weights == x || release!(e, weights)
        return placed!(e, x, true, goal)
    end
    y = emit_combined!(e, *, identity, nodes, x)
    owned && y != x && release!(e, x)
    return placed!(e, y, owned || y != x, goal)
end

"Channels behind a tree."
function channels_behind(bound::Bound, channels)
    kind, nodes = op(bound), bound.nodes
    kind === :chain && return foldl((c, inner) -> channels_behind(inner, c), nodes; init = channels)
    kind in (:conv, :dense) && return bound.node.layer.shape[1]
    kind === :concat && return sum(channels_behind(inner, channels) for inner in nodes)
    kind in (:add, :multiply) && return channels_behind(first(nodes), channels)
    return kind === :attend ? channels ÷ 3 : channels
end

function emit_concat!(e, group, x, owned, goal)
    nodes, before = group.first.nodes, e.channels[x]
    widths = [channels_behind(inner, before) for inner in nodes]
    # The new channels lie behind the old ones: these need not be moved.
    grows = goal === nothing &&
        owned &&
        length(nodes) == 2 &&
        isempty(branch(nodes[1])) &&
        length(grouped(branch(nodes[2]))) > 1
    if goal === nothing
        to = grows ? x : slot!(e, sum(widths))
        goal = Goal(to, 1:sum(widths), sum(widths))
    end
    first = goal.columns[1]
    for (i, (inner, width)) in enumerate(zip(nodes, widths))
        columns = first:(first + width - 1)
        first += width
        grows && i == 1 && continue
        emit!(e, inner, x, false, Goal(goal.slot, columns, goal.width))
    end
    e.channels[goal.slot] = goal.width
    owned && goal.slot != x && release!(e, x)
    return goal.slot
end

const GROUPS = Dict{Symbol, Function}(
    :conv => emit_step!,
    :dense => emit_step!,
    :norm => emit_norm!,
    :layernorm => emit_layernorm!,
    :scale => emit_scale!,
    :act => emit_act!,
    :maxpool => emit_window!,
    :meanpool => emit_window!,
    :mean => emit_mean!,
    :flat => emit_flat!,
    :first => emit_pick!,
    :rest => emit_pick!,
    :attend => emit_attend!,
    :embed => emit_embed!,
    :add => emit_add!,
    :multiply => emit_multiply!,
    :concat => emit_concat!,
    # A chain inside a chain is opened when the tree is made.
)
