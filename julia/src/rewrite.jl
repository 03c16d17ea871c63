# Units rewritten for inference on a processor. What pays, in order of gain:
# - a 1×1 convolution is one matrix product over all pixels, without im2col;
# - a 3×3 convolution of stride 1 takes a quarter of the multiplications (Winograd);
# - BatchNorm is folded into the convolution before it;
# - bias, shortcut and activation are applied to a block of rows while it lies in the cache;
# - buffers are reused, and the images of a batch are spread over the threads, a few for each.

# Below so many channels a product of tiles is too small to gain anything.
const NARROW = 16

"""
A unit as operations over numbered slots: its input lies in slot 1, its output, an array of so many
`axes`, in `result`.
"""
struct Rewritten
    name::String
    operations::Vector{Any}
    result::Int
    axes::Int
end

Rewritten(name, operations, result) = Rewritten(name, operations, result, 4)

"A unit's operations, or nothing where its own layer is as good."
function rewrite(unit::Unit, layer)
    unit.body === nothing || return rewrite_tree(unit, layer)
    haskey(EMITTERS, unit.kind) || return nothing
    operations = Any[]
    result = EMITTERS[unit.kind](operations, unit.options, first.(leaves(layer)), 1)
    return Rewritten(unit.name, operations, result)
end

"Slots other than these, in order."
others(taken...) = [slot for slot in 1:4 if !(slot in taken)]

"Weight and bias of a convolution and the BatchNorm behind it, as one matrix and one vector."
function fold(conv::Conv, norm = nothing)
    weight = reshape(outside(conv.weight), :, size(conv.weight, 4))
    bias = conv.bias isa AbstractVector ? copy(conv.bias) : zeros(Float32, size(weight, 2))
    norm === nothing && return weight, bias
    scale = norm.γ ./ sqrt.(norm.σ² .+ norm.ϵ)
    return weight .* transpose(scale), (bias .- norm.μ) .* scale .+ norm.β
end

function convolve!(
    ops,
    leaves,
    activation,
    from,
    to;
    padding = -1,
    add = false,
    columns = nothing,
    width = 0,
)
    conv = first(leaves)
    weight, bias = fold(leaves...)
    kernel, stride, out = size(conv.weight, 1), first(conv.stride), size(weight, 2)
    same = padding == "same"
    pad = padding == -1 ? kernel ÷ 2 : same ? 0 : padding
    range, total = columns === nothing ? (1:out, out) : (columns, width)
    op = Convolve(
        weight,
        bias,
        kernel,
        stride,
        same,
        pad,
        conv.groups,
        activation,
        from,
        to,
        range,
        total,
        add,
    )
    tiled = (kernel, stride, conv.groups) == (3, 1, 1) && (same || pad == 1)
    push!(ops, tiled && size(conv.weight, 3) >= NARROW ? Winograd(op) : op)
    return to
end

function emit_conv(ops, o, leaves, x)
    activation = ACTIVATIONS[o["activation"]]
    return convolve!(ops, leaves, activation, x, first(others(x)); padding = o["padding"])
end

# The shortcut's slot receives the block's last convolution.
function emit_residual(ops, o, leaves, x)
    steps = [leaves[i:(i + 1)] for i in 1:2:length(leaves)]
    a, b, c = others(x)
    target = x
    if o["stride"] != 1 || o["in"] != o["out"]
        target = convolve!(ops, pop!(steps), identity, x, c)
    end
    from, to = x, a
    for step in steps[1:(end - 1)]
        convolve!(ops, step, relu, from, to)
        from, to = to, to == a ? b : a
    end
    return convolve!(ops, steps[end], relu, from, target; add = true)
end

function emit_inverted(ops, o, leaves, x)
    steps = [leaves[i:(i + 1)] for i in 1:2:length(leaves)]
    a, b, c = others(x)
    from = length(steps) == 3 ? convolve!(ops, popfirst!(steps), relu6, x, a) : x
    conv, norm = steps[1]
    weight, bias = fold(conv, norm)
    kernel = size(conv.weight, 1)
    same = o["padding"] == "same"
    push!(
        ops,
        Depthwise(
            reshape(weight, kernel, kernel, :),
            bias,
            kernel,
            o["stride"],
            same,
            same ? 0 : o["padding"],
            relu6,
            from,
            b,
        ),
    )
    residual = o["residual"]
    return convolve!(ops, steps[2], identity, b, residual ? x : c; add = residual)
end

function emit_fire(ops, o, leaves, x)
    a, b, _ = others(x)
    squeeze, narrow, wide = leaves
    convolve!(ops, [squeeze], relu, x, a)
    expand = o["expand"]
    convolve!(ops, [narrow], relu, a, b; columns = 1:expand, width = 2expand)
    return convolve!(ops, [wide], relu, a, b; columns = (expand + 1):(2expand), width = 2expand)
end

function emit_maxpool(ops, o, leaves, x)
    to = first(others(x))
    push!(ops, Maximum(o["kernel"], o["stride"], o["padding"], o["ceil"], x, to))
    return to
end

const EMITTERS = Dict(
    :basic => emit_residual,
    :bottleneck => emit_residual,
    :conv => emit_conv,
    :fire => emit_fire,
    :inverted => emit_inverted,
    :maxpool => emit_maxpool,
)
