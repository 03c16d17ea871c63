# Units made of Flux layers: every unit without parameters, replaced heads, and what Metalhead's
# networks cannot hold.

const ACTIVATIONS = Dict(
    "none" => identity,
    "relu" => relu,
    "relu6" => relu6,
    "gelu" => gelu,
    "tanh" => tanh,
    "silu" => swish,
    "sigmoid" => sigmoid,
    "hardswish" => hardswish,
    "hardsigmoid" => hardsigmoid,
)

function make_conv(o)
    same, kernel = o["padding"] == "same", o["kernel"]
    # At stride 1 TensorFlow's padding is symmetric: the convolution does it itself.
    pad = same ? (o["stride"] == 1 ? kernel ÷ 2 : 0) : o["padding"]
    activation = ACTIVATIONS[o["activation"]]
    conv = Conv(
        (kernel, kernel),
        o["in"] => o["out"],
        o["norm"] ? identity : activation;
        stride = o["stride"],
        pad,
        bias = o["bias"],
    )
    layers = Any[conv]
    same && o["stride"] > 1 && pushfirst!(layers, PadSame(kernel, o["stride"]))
    o["norm"] && push!(layers, BatchNorm(o["out"], activation; eps = Float32(o["eps"])))
    return length(layers) == 1 ? conv : Chain(layers...)
end

function make_inverted(o)
    kernel, stride, mid = o["kernel"], o["stride"], o["mid"]
    norm(channels, activation) = BatchNorm(channels, activation; eps = Float32(o["eps"]))
    same = o["padding"] == "same"
    pad = same ? (stride == 1 ? kernel ÷ 2 : 0) : o["padding"]
    layers = Any[]
    if mid != o["in"]
        push!(layers, Conv((1, 1), o["in"] => mid; bias = false), norm(mid, relu6))
    end
    same && stride > 1 && push!(layers, PadSame(kernel, stride))
    depthwise = Conv((kernel, kernel), mid => mid; stride, pad, groups = mid, bias = false)
    push!(layers, depthwise, norm(mid, relu6))
    push!(layers, Conv((1, 1), mid => o["out"]; bias = false), norm(o["out"], identity))
    block = Chain(layers...)
    return o["residual"] ? SkipConnection(block, +) : block
end

function make_fire(o)
    expand = o["expand"]
    narrow = Conv((1, 1), o["squeeze"] => expand, relu)
    wide = Conv((3, 3), o["squeeze"] => expand, relu; pad = 1)
    squeeze = Conv((1, 1), o["in"] => o["squeeze"], relu)
    return Chain(squeeze, Parallel(beside, narrow, wide))
end

function make_maxpool(o)
    o["ceil"] && return CeilMaxPool(o["kernel"], o["stride"], o["padding"])
    return WindowMax(o["kernel"], o["stride"], o["padding"])
end

make_dense(o) = Dense(o["in"] => o["out"], ACTIVATIONS[o["activation"]])

# Its own generator: every step seeds it anew, so that a resumed run drops what the first one did.
make_dropout(o) = o["p"] == 0 ? identity : Dropout(o["p"]; rng = generator(Flux.cpu_device()))

const MAKERS = Dict(
    :avgpool => o -> AdaptiveMean(o["size"]),
    :conv => make_conv,
    :dense => make_dense,
    :dropout => make_dropout,
    :fire => make_fire,
    :flatten => o -> Flux.flatten,
    :inverted => make_inverted,
    :maxpool => make_maxpool,
)

"Make a unit of Flux layers, with a random start."
function make(unit::Unit)
    unit.body === nothing || return assemble(unit.body)
    haskey(MAKERS, unit.kind) ||
        throw(ArgumentError("unit $(unit.name): no Flux layers are known for a $(unit.kind)"))
    return MAKERS[unit.kind](unit.options)
end
