# One step of the tail. Loss and updates are PyTorch's, so that either engine can go on where the
# other stopped.

"""
SGD with PyTorch's momentum: the buffer gathers gradients, the rate multiplies the buffer. (In
Optimisers.Momentum the rate enters the buffer, which differs as soon as the rate changes.)
"""
struct HeavyBall{T} <: Optimisers.AbstractRule
    eta::T
    rho::T
end

Optimisers.init(::HeavyBall, x::AbstractArray) = zero(x)

function Optimisers.apply!(rule::HeavyBall, buffer, x::AbstractArray{T}, dx) where {T}
    buffer .= T(rule.rho) .* buffer .+ dx
    return buffer, T(rule.eta) .* buffer
end

# Adam and SGD add the decay to the gradient, AdamW shrinks the weights by rate · decay.
decayed(rule, update) = update.weight_decay == 0 ?
    rule :
    Optimisers.OptimiserChain(Optimisers.WeightDecay(update.weight_decay), rule)

const RULES = Dict(
    "adam" => u -> decayed(Optimisers.Adam(0.0, u.beta, u.eps), u),
    "adamw" => u -> Optimisers.AdamW(0.0, u.beta, u.weight_decay, u.eps; couple = true),
    "sgd" => u -> decayed(HeavyBall(0.0, u.momentum), u),
)

optimizer_rule(update::Update) = RULES[update.optimizer](update)

"""
Soft targets (classes, N) and what their sum of losses is divided by, as torch.nn.CrossEntropyLoss:
the smoothed share is weighed by each class's weight, the mean by the weights of the labels.
"""
function targets(labels, classes, smoothing, weights)
    w = weights === nothing ? ones(Float32, classes) : Vector{Float32}(weights)
    soft = fill(Float32(smoothing / classes), classes, length(labels))
    for (n, label) in enumerate(labels)
        soft[label, n] += Float32(1 - smoothing)
    end
    return soft .* w, sum(w[labels])
end

cross_entropy(logits, soft, total) = -sum(soft .* logsoftmax(logits)) / total

"""
Update the tail in place; the mean loss before it. `x` is what `embed` returned, `labels` count from
1, `rates` holds the learning rate of each of the tail's stages. Where the loss or a statistic of a
BatchNorm would not be finite, nothing changes, and the loss that is returned is not finite.
"""
function step!(net::Network, x::AbstractArray, labels, rates::AbstractDict, weights = nothing)
    check_input(net.units, net.cut + 1, x)
    check_rates(net, rates)
    soft, total = targets(labels, classes(net), net.update.label_smoothing, weights)
    seed_dropout!(net)
    before = [(array(tensor), copy(array(tensor))) for tensor in statistics(net)]
    put_back() = foreach(((now, old),) -> copyto!(now, old), before)
    # What is not a number must not stay in the network: the loss tells the caller.
    loss = try
        with_gradients(net, x, soft, total) do loss, mirrors
            forget!(net, (net.cut + 1):length(net.units))
            fine = isfinite(loss) && all(((now, _),) -> all(isfinite, now), before)
            fine && update!(net, mirrors, rates)
            fine ? loss : isfinite(loss) ? NaN : loss
        end
    catch
        put_back()
        rethrow()
    end
    isfinite(loss) ? (net.steps += 1) : put_back()
    return Float64(loss)
end

"Call `work` with the loss and each layer's gradients, which are there for that call alone."
function with_gradients(work, net::Network, x, soft, total)
    trained = net.chain.layers[(net.cut + 1):end]
    net.device isa Flux.CPUDevice || return work(by_zygote(net, x, soft, total)...)
    size(soft, 2) == size(x, ndims(x)) ||
        throw(DimensionMismatch("$(size(x, ndims(x))) images, but $(size(soft, 2)) labels"))
    room = net.kept.room
    # Threads that each call the matrix product must not each start threads of their own.
    return with_blas_threads(Threads.nthreads() > 1 ? 1 : BLAS.get_num_threads()) do
        GC.@preserve room try
            work(gradients(room, trained, x, soft, total)...)
        finally
            give_all_back!(room)
        end
    end
end

"Loss and gradients as Flux and Zygote compute them."
function by_zygote(net::Network, x, soft, total)
    check_batch(net, x)
    input, targets = net.device(x), net.device(soft)
    loss, grads = Flux.withgradient(m -> cross_entropy(m(input), targets, total), tail(net))
    return loss, grads[1].layers
end

function update!(net::Network, mirrors, rates)
    for (i, index) in enumerate((net.cut + 1):length(net.units))
        unit = net.units[index]
        for tensor in tensors(unit, net.chain.layers[index], mirrors[i])
            update_tensor!(rules!(net), tensor, rates[unit.stage])
        end
    end
    return nothing
end

function check_rates(net::Network, rates)
    for stage in stages(net.units[(net.cut + 1):end])
        haskey(rates, stage) || throw(ArgumentError("rates lack the stage \"$stage\""))
        0 <= rates[stage] < Inf ||
            throw(ArgumentError(
                "the learning rate of \"$stage\" must be a finite number from 0, got $(rates[stage])",
            ))
    end
    return nothing
end

"The running statistics of the tail's BatchNorm layers."
function statistics(net::Network)
    held = [tensors(net.units[i], net.chain.layers[i]) for i in (net.cut + 1):length(net.units)]
    return filter(statistic, reduce(vcat, held; init = Tensor[]))
end

# One value a channel has no variance: refused before it can reach the running statistics.
function check_batch(net::Network, x)
    (size(x, ndims(x)) > 1 || net.update.freeze_bn) && return nothing
    for i in (net.cut + 1):length(net.units)
        x = evaluate(net, x, i:i; watch = false)
        learns = any(layer -> layer isa BatchNorm, Flux.modules(net.chain[i]))
        learns &&
            size(x, 1) * size(x, 2) == 1 &&
            throw(DomainError(
                net.units[i].name,
                "BatchNorm cannot learn from one value a channel. Use a batch of at least 2 " *
                    "images, or freeze_bn.",
            ))
    end
    return nothing
end

"Width of the logits: that of the last layer with parameters."
function classes(net::Network)
    last(net.units).kind === :own && return last(net.units).options["out"]
    index = findlast(unit -> !isempty(unit.layers), net.units)
    return first(net.units[index].layers[end].shape)
end

function update_tensor!(rules, tensor::Tensor, rate)
    # Zygote has a gradient of the statistics too where they were used as they are.
    (statistic(tensor) || gradient(tensor) === nothing) && return nothing
    rule = rules[tensor.name]
    Optimisers.adjust!(rule, rate)
    rules[tensor.name] = update_in_place!(rule, array(tensor), gradient(tensor))
    return nothing
end

# The masks follow from the seed and the count of steps, so a resumed run equals an unbroken one.
function seed_dropout!(net::Network)
    for (index, layer) in enumerate(net.chain.layers)
        for (place, dropout) in enumerate(dropouts(layer))
            within = place == 1 ? () : (place,)
            Random.seed!(dropout.rng, mix(net.update.seed, net.steps, index, within...))
        end
    end
    return nothing
end

"The Dropouts of a layer, however deep they lie."
dropouts(layer) = Dropout[inner for inner in Flux.modules(layer) if inner isa Dropout]

# splitmix64's finaliser over the three numbers: neighbours get unrelated seeds.
function mix(numbers::Integer...)
    z = 0x9e3779b97f4a7c15
    for number in numbers
        z = xor(z, number % UInt64) * 0xbf58476d1ce4e5b9
        z = xor(z, z >> 27) * 0x94d049bb133111eb
        z = xor(z, z >> 31)
    end
    return Int(z >> 33)
end

# --- what the optimizer remembers -----------------------------------------------------------------

const SLOTS = Dict(
    "adam" => ("exp_avg", "exp_avg_sq"),
    "adamw" => ("exp_avg", "exp_avg_sq"),
    "sgd" => ("momentum_buffer",),
)

# A decay in front of the rule makes the state a pair, of which the first is nothing.
behind_decay(leaf) = leaf.rule isa Optimisers.OptimiserChain ? leaf.state[end] : leaf.state
moments(leaf) = (inner = behind_decay(leaf); inner isa Tuple ? inner[1:2] : (inner,))

"What the optimizer remembers, as slot/parameter => array; PyTorch's names."
function memory(net::Network)
    return Dict{String, Any}(
        "$slot/$name" => moment
        for (name, leaf) in rules!(net)
        for (slot, moment) in zip(SLOTS[net.update.optimizer], moments(leaf))
    )
end

"""
Replace what the optimizer remembers after `steps` steps; arrays are laid out as `state` returns
them. Strict like `load!`.
"""
function load_memory!(net::Network, steps, given)
    held = memory(net)
    check(given, [name => outside_size(x) for (name, x) in held])
    foreach(((name, x),) -> copyto!(x, inside(given[name])), held)
    net.steps = steps
    foreach(leaf -> set_powers!(leaf, steps), values(rules!(net)))
    return net
end

# Adam's bias correction, multiplied up as the steps did it.
function set_powers!(leaf, steps)
    inner = behind_decay(leaf)
    inner isa Tuple || return nothing
    rule = leaf.rule isa Optimisers.OptimiserChain ? leaf.rule.opts[end] : leaf.rule
    beta = Float32.(rule.beta)
    powers = foldl((powers, _) -> powers .* beta, 1:steps; init = beta)
    moved = (inner[1], inner[2], powers)
    leaf.state = leaf.rule isa Optimisers.OptimiserChain ?
        (leaf.state[1:(end - 1)]..., moved) :
        moved
    return nothing
end
