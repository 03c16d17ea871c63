# The optimizers' rules in one pass over a parameter, on all threads. Numbers and state are Optimisers':
# `Optimisers.update!` takes the same step, in three passes on one thread.

"Update a parameter in place by its leaf's rule; the leaf as it is afterwards."
function update_in_place!(leaf, x, dx)
    plainly = x isa Array{Float32} && dx isa Array{Float32}
    decay, rule, state = taken_apart(leaf.rule, leaf.state)
    plainly && rule isa Union{HeavyBall, Optimisers.Adam, Optimisers.AdamW} ||
        return first(Optimisers.update!(leaf, x, dx))
    powers = move!(rule, Float32(decay), state, x, dx)
    powers === nothing || set_state!(leaf, (state[1], state[2], powers))
    return leaf
end

taken_apart(rule, state) = 0.0, rule, state
function taken_apart(rule::Optimisers.OptimiserChain, state)
    decay, inner = rule.opts[1], rule.opts[end]
    known = length(rule.opts) == 2 && decay isa Optimisers.WeightDecay
    return known ? (decay.lambda, inner, state[end]) : (0.0, nothing, nothing)
end

function set_state!(leaf, state)
    leaf.state = leaf.rule isa Optimisers.OptimiserChain ?
        (leaf.state[1:(end - 1)]..., state) :
        state
    return leaf
end

function move!(rule::HeavyBall, decay, buffer, x, dx)
    eta, rho = Float32(rule.eta), Float32(rule.rho)
    in_parts(length(x), WORTHWHILE) do part, _
        @inbounds @simd ivdep for i in part
            buffer[i] = rho * buffer[i] + (dx[i] + decay * x[i])
            x[i] -= eta * buffer[i]
        end
    end
    return nothing
end

# Adam's decay belongs to the gradient, AdamW's to the weight.
move!(rule::Optimisers.Adam, decay, state, x, dx) = move_adam!(rule, decay, 0.0f0, state, x, dx)
move!(rule::Optimisers.AdamW, decay, state, x, dx) = move_adam!(
    rule,
    decay,
    Float32(rule.couple ? rule.eta * rule.lambda : rule.lambda),
    state,
    x,
    dx,
)

function move_adam!(rule, decay, shrink, (mean, square, powers), x, dx)
    eta, eps, (b1, b2) = Float32(rule.eta), Float32(rule.epsilon), Float32.(rule.beta)
    first, second = 1 / (1 - powers[1]), 1 / (1 - powers[2])
    in_parts(length(x), WORTHWHILE) do part, _
        @inbounds @simd ivdep for i in part
            g = dx[i] + decay * x[i]
            m = b1 * mean[i] + (1 - b1) * g
            v = b2 * square[i] + (1 - b2) * g * g
            mean[i], square[i] = m, v
            x[i] -= eta * (m * first) / (sqrt(v * second) + eps) + shrink * x[i]
        end
    end
    return powers .* (b1, b2)
end
