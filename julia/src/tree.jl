# A block's tree as Flux layers. An activation behind a convolution, a norm or a dense layer is that
# layer's own.

"Make the layers of a tree, with a random start."
assemble(node::Node) = node.op === :chain ? assemble_chain(node.nodes) : single(node, identity)

function assemble_chain(nodes)
    isempty(nodes) && return identity
    layers, i = Any[], 1
    while i <= length(nodes)
        activated = i < length(nodes) && nodes[i + 1].op === :act && nodes[i].op in ACTIVE
        activation = activated ? activation_of(nodes[i + 1]) : identity
        push!(layers, single(nodes[i], activation))
        i += activated ? 2 : 1
    end
    return Chain(layers) # a vector compiles faster than a tuple
end

const ACTIVE = (:conv, :norm, :dense)

activation_of(node) = ACTIVATIONS[node.options["function"]]

single(node, activation) = ASSEMBLERS[node.op](node, activation)

joined(connection, node) = Parallel(connection, Tuple(assemble.(node.nodes)))

function assemble_conv(node, activation)
    o, (out, inner, high, wide) = node.options, node.layer.shape
    groups = o["groups"]
    return Conv(
        (wide, high),
        inner * groups => out,
        activation;
        stride = o["stride"],
        pad = (o["left"], o["above"]),
        groups,
        bias = node.layer.bias,
    )
end

function assemble_norm(node, activation)
    eps, momentum = Float32(node.options["eps"]), Float32(node.layer.momentum)
    return BatchNorm(node.layer.shape[1], activation; eps, momentum)
end

function assemble_dense(node, activation)
    out, inner = node.layer.shape
    return Pointwise(Dense(inner => out, activation))
end

learnt(layer::Layer) = zeros(Float32, Tuple(reverse(layer.shape)))

function assemble_embed(node)
    token, position = (Learnt(learnt(inner.layer)) for inner in node.nodes)
    o = node.options
    return Embed(token, position, o["side"], Float64(o["offset"]), o["aligned"])
end

window(node) = node.options["kernel"], node.options["stride"], node.options["padding"]

# operation => what makes its layer of the node and the activation behind it
const ASSEMBLERS = Dict{Symbol, Function}(
    :chain => (node, _) -> assemble(node),
    :add => (node, _) -> joined(plus, node),
    :multiply => (node, _) -> joined(times, node),
    :concat => (node, _) -> joined(beside, node),
    :conv => assemble_conv,
    :norm => assemble_norm,
    :layernorm => (node, _) -> ChannelNorm(node.layer.shape[1], node.options["eps"]),
    :dense => assemble_dense,
    :scale => (node, _) -> Factor(learnt(node.layer) .+ 1),
    :embed => (node, _) -> assemble_embed(node),
    :act => (node, _) -> Activation(activation_of(node)),
    :maxpool => (node, _) -> make_maxpool(node.options),
    :meanpool => (node, _) -> WindowMean(window(node)...),
    :mean => (node, _) -> AdaptiveMean(1),
    :flat => (node, _) -> Flux.flatten,
    :attend => (node, _) -> Attend(node.options["heads"]),
    :first => (node, _) -> first_token,
    :rest => (node, _) -> rest_mean,
)
