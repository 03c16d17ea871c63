# Small trees that hold every operation, in the ways that the families join them.

node(op, nodes...; layer = nothing, settings...) = PyFluxTransfer.Node(
    op,
    options(; settings...),
    layer,
    collect(PyFluxTransfer.Node, nodes),
)

chain(nodes...) = node(:chain, nodes...)
act(name) = node(:act; :function => name)
branches_of(op, nodes...) = node(op, nodes...)

function convolution(
    name,
    inputs,
    outputs,
    kernel;
    pad = kernel ./ 2,
    stride = 1,
    groups = 1,
    bias = false,
)
    wide, high = kernel
    left, above = floor.(Int, pad)
    leaf = Layer(name, :conv, [outputs, inputs ÷ groups, high, wide], bias)
    return node(:conv; layer = leaf, stride, above, left, groups)
end

normalised(name, channels) = node(:norm; layer = norm_leaf(name, channels), eps = 1.0e-3)
layernorm(name, width) = node(
    :layernorm;
    layer = Layer(name, :layernorm, [width], true),
    eps = 1.0e-6,
)
affine(name, inputs, outputs; joint = ".") = node(
    :dense;
    layer = Layer(name, :dense, [outputs, inputs], true, joint),
)
scale(name, shape...) = node(:scale; layer = Layer(name, :scale, collect(shape), false))
token(name, shape...) = node(:token; layer = Layer(name, :token, collect(shape), false))
pooled(op, kernel, stride, padding; settings...) = node(op; kernel, stride, padding, settings...)

excited(name, channels) = branches_of(
    :multiply,
    chain(),
    chain(
        node(:mean),
        convolution("$name.1", channels, 4, (1, 1); bias = true),
        act("silu"),
        convolution("$name.2", 4, channels, (1, 1); bias = true),
        act("hardsigmoid"),
    ),
)

attention(name, width; heads = 2) = chain(
    layernorm("$name.ln", width),
    affine("$name.in_proj", width, 3width; joint = "_"),
    node(:attend; heads),
    affine("$name.out", width, width),
)

# name => tree, channels in and out, axes in and out
const TREES = Dict(
    "inverted" => (
        branches_of(
            :add,
            chain(),
            chain(
                convolution("a", 8, 16, (1, 1)),
                normalised("b", 16),
                act("silu"),
                convolution("c", 16, 16, (5, 5); groups = 16),
                normalised("d", 16),
                act("hardswish"),
                excited("e", 16),
                convolution("f", 16, 8, (1, 1)),
                normalised("g", 8),
            ),
        ),
        8,
        8,
        4,
        4,
    ),
    "residual" => (
        chain(
            branches_of(
                :add,
                chain(convolution("a", 8, 12, (3, 3); stride = 2), normalised("b", 12)),
                chain(convolution("c", 8, 12, (1, 1); stride = 2, bias = true)),
            ),
            act("relu"),
            branches_of(:add, chain(), convolution("d", 12, 12, (3, 3); groups = 3)),
        ),
        8,
        12,
        4,
        4,
    ),
    "dense" => (
        chain(
            branches_of(
                :concat,
                chain(),
                chain(
                    normalised("a", 8),
                    act("relu"),
                    convolution("b", 8, 16, (1, 1)),
                    normalised("c", 16),
                    act("relu"),
                    convolution("d", 16, 4, (3, 3)),
                ),
            ),
            normalised("e", 12),
            act("gelu"),
            pooled(:meanpool, 2, 2, 0),
        ),
        8,
        12,
        4,
        4,
    ),
    "inception" => (
        branches_of(
            :concat,
            chain(convolution("a", 16, 8, (1, 1)), normalised("b", 8), act("relu")),
            chain(
                convolution("c", 16, 24, (7, 1); pad = (3, 0)),
                act("tanh"),
                branches_of(
                    :concat,
                    chain(convolution("d", 24, 16, (3, 1); pad = (1, 0)), act("relu")),
                    chain(convolution("e", 24, 16, (1, 3); pad = (0, 1)), act("sigmoid")),
                ),
                convolution("f", 32, 20, (3, 3)),
            ),
            chain(pooled(:meanpool, 3, 1, 1), convolution("g", 16, 4, (1, 1))),
            pooled(:maxpool, 3, 1, 1; ceil = true),
            chain(convolution("h", 16, 16, (3, 3); groups = 16), act("relu6")),
        ),
        16,
        64,
        4,
        4,
    ),
    "next" => (
        chain(
            layernorm("a", 8),
            branches_of(
                :add,
                chain(),
                chain(
                    convolution("b", 8, 8, (7, 7); groups = 8, bias = true),
                    layernorm("c", 8),
                    affine("d", 8, 32),
                    act("gelu"),
                    affine("e", 32, 8),
                    scale("f", 8, 1, 1),
                ),
            ),
            node(:mean),
            layernorm("g", 8),
            node(:flat),
        ),
        8,
        8,
        4,
        2,
    ),
    "stem" => (
        chain(
            convolution("a", 3, 8, (4, 4); pad = (0, 0), stride = 4, bias = true),
            node(
                :embed,
                token("b", 1, 1, 8),
                token("c", 1, 10, 8);
                side = 3,
                offset = 0.1,
                aligned = false,
            ),
        ),
        3,
        8,
        4,
        3,
    ),
    "encoder" => (
        chain(
            branches_of(:add, chain(), attention("a", 8)),
            branches_of(
                :add,
                chain(),
                chain(
                    layernorm("b", 8),
                    affine("c", 8, 16),
                    act("gelu"),
                    affine("d", 16, 8),
                    scale("e", 8),
                ),
            ),
        ),
        8,
        8,
        3,
        3,
    ),
    "last" => (
        chain(layernorm("a", 8), branches_of(:concat, node(:first), node(:rest))),
        8,
        16,
        3,
        2,
    ),
    "alone" => (
        chain(
            act("silu"),
            scale("a", 8),
            branches_of(:add, chain(), chain(act("tanh"))),
            act("relu"),
        ),
        8,
        8,
        3,
        3,
    ),
)

function tree_unit(name; stage = "head")
    body, inputs, outputs, axes, ends = TREES[name]
    settings = options(; :in => inputs, :out => outputs, axes, ends)
    return Unit(name, :block, stage, settings, PyFluxTransfer.held(body), body)
end

function tree_network(name)
    net = Network(Plan("", [], Dict{Symbol, Any}(), [tree_unit(name)]))
    return load!(net, random_state(net))
end

function tree_input(name, count = 3)
    _, inputs, _, axes, _ = TREES[name]
    axes == 4 && return images_of(inputs, count)
    return randn(MersenneTwister(3), Float32, inputs, 11, count)
end

images_of(channels, count) = randn(MersenneTwister(3), Float32, 20, 16, channels, count)

"A vision transformer, as Python describes it."
function vit_plan(width, depth, heads, patch, side)
    block(name, inputs, axes, ends, body) = Unit(
        name,
        :block,
        "s",
        options(; :in => inputs, :out => width, axes, ends),
        PyFluxTransfer.held(body),
        body,
    )
    stem = chain(
        convolution("conv", 3, width, (patch, patch); pad = (0, 0), stride = patch, bias = true),
        node(
            :embed,
            token("class", 1, 1, width),
            token("position", 1, 1 + side^2, width);
            side,
            offset = 0.0,
            aligned = true,
        ),
    )
    layer(name) = chain(
        branches_of(:add, chain(), attention("$name.attention", width; heads)),
        branches_of(
            :add,
            chain(),
            chain(
                layernorm("$name.ln", width),
                affine("$name.mlp.0", width, 4width),
                act("gelu"),
                affine("$name.mlp.3", 4width, width),
            ),
        ),
    )
    units = [block("stem", 3, 4, 3, stem)]
    append!(units, [block("layer$i", width, 3, 3, layer("layer$i")) for i in 1:depth])
    push!(units, block("last", width, 3, 2, chain(layernorm("ln", width), node(:first))))
    return Plan("", [], Dict{Symbol, Any}(), [units; dense_unit("head", width, 1000)])
end
