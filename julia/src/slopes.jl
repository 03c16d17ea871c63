# Activations whose slope is known here: f′(z), as NNlib defines it where it jumps.

const Activated = Union{
    typeof(identity),
    typeof(relu),
    typeof(relu6),
    typeof(swish),
    typeof(sigmoid),
    typeof(gelu),
    typeof(hardswish),
    typeof(hardsigmoid),
    typeof(tanh),
}

# Those whose slope at z is that at f(z): z itself need not be kept.
const FromOutput = Union{typeof(identity), typeof(relu), typeof(relu6)}

@inline slope(::typeof(identity), z) = 1.0f0
@inline slope(::typeof(relu), z) = ifelse(z > 0, 1.0f0, 0.0f0)
@inline slope(::typeof(relu6), z) = ifelse((z > 0) & (z < 6), 1.0f0, 0.0f0)
@inline slope(::typeof(hardsigmoid), z) = ifelse((z > -3) & (z < 3), 1.0f0 / 6, 0.0f0)
@inline slope(::typeof(tanh), z) = 1 - tanh(z)^2
@inline function slope(::typeof(hardswish), z)
    return ifelse(z <= -3, 0.0f0, ifelse(z >= 3, 1.0f0, z / 3 + 0.5f0))
end
@inline function slope(::typeof(sigmoid), z)
    s = fast_sigmoid(z)
    return s * (1 - s)
end
@inline function slope(::typeof(swish), z)
    s = fast_sigmoid(z)
    return s * (1 + z * (1 - s))
end
@inline function slope(::typeof(gelu), z)
    share = 0.5f0 * (1 + fast_erf(z * 0.70710677f0))
    return muladd(z * 0.3989423f0, fast_exp(-0.5f0 * z * z), share)
end
