# Plans to test with: the real ones lie in plans/ as Python wrote them, the tiny one is made here.

read_plan(name) = PyFluxTransfer.parse_plan(read(joinpath(@__DIR__, "plans", "$name.toml"), String))

conv_leaf(name, inputs, outputs, kernel; bias = false) = Layer(
    name,
    :conv,
    [outputs, inputs, kernel, kernel],
    bias,
)
norm_leaf(name, channels) = Layer(name, :norm, [channels], true)
dense_leaf(name, inputs, outputs) = Layer(name, :dense, [outputs, inputs], true)

options(; settings...) = Dict{String, Any}(string(k) => v for (k, v) in settings)

function conv_unit(name, stage, inputs, outputs, kernel; settings...)
    given = Dict(
        :stride => 1,
        :padding => 0,
        :bias => false,
        :norm => true,
        :eps => 1.0e-5,
        :activation => "relu",
    )
    o = options(; given..., :in => inputs, :out => outputs, :kernel => kernel, settings...)
    leaves = [conv_leaf("$name.0", inputs, outputs, kernel; bias = o["bias"])]
    o["norm"] && push!(leaves, norm_leaf("$name.1", outputs))
    return Unit(name, :conv, stage, o, leaves)
end

dense_unit(name, inputs, outputs; activation = "none") = Unit(
    name,
    :dense,
    "head",
    options(; :in => inputs, :out => outputs, :activation => activation),
    [dense_leaf(name, inputs, outputs)],
)

"A network that compiles fast: two convolutions, pooling, dropout, two Dense layers, 3 classes."
function tiny_plan(; dropout = 0.5)
    units = [
        conv_unit("a", "stem", 3, 8, 3; padding = 1, stride = 2),
        Unit(
            "b",
            :maxpool,
            "stem",
            options(; kernel = 2, stride = 2, padding = 0, ceil = false),
            [],
        ),
        conv_unit("c", "body", 8, 6, 1),
        Unit("pool", :avgpool, "head", options(; size = 1), []),
        Unit("flatten", :flatten, "head", options(), []),
        dense_unit("fc.0", 6, 5; activation = "gelu"),
        Unit("fc.2", :dropout, "head", options(; p = dropout), []),
        dense_unit("fc.3", 5, 3),
    ]
    return Plan("", [], Dict{Symbol, Any}(), units)
end

"A random state with statistics that are not those of a fresh BatchNorm."
function random_state(net; seed = 1)
    rng = MersenneTwister(seed)
    return Dict(
        name =>
            endswith(name, "running_var") ?
                rand(rng, Float32, size(x)) .+ 0.5f0 :
                0.3f0 .* randn(rng, Float32, size(x))
        for (name, x) in PyFluxTransfer.state(net)
    )
end

function tiny_network(; settings...)
    Random.seed!(0)
    net = Network(tiny_plan(; settings...))
    return PyFluxTransfer.load!(net, random_state(net))
end

images(count = 4; width = 17, height = 13) = randn(
    MersenneTwister(2),
    Float32,
    width,
    height,
    3,
    count,
)
