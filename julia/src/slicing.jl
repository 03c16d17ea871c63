# A network is one chain, cut into a frozen trunk and a trained tail. Slices share their arrays.

"How a step changes the tail; PyTorch's definitions."
Base.@kwdef struct Update
    optimizer::String = "adamw"
    weight_decay::Float64 = 0.01
    momentum::Float64 = 0.9
    beta::Tuple{Float64, Float64} = (0.9, 0.999)
    eps::Float64 = 1.0e-8
    label_smoothing::Float64 = 0.0
    freeze_bn::Bool = false
    seed::Int = 0
end

"A frozen trunk and a trained tail of one network, split before unit `cut` (counted from 0)."
mutable struct Network
    units::Vector{Unit}
    chain::Chain
    device::Any
    cut::Int
    update::Update
    rules::Dict{String, Any} # parameter's name => Optimisers' leaf
    steps::Int
    kept::Kept  # what evaluation and steps use again
    own::String # the call that makes its own layers, or ""
end

"""
Build a plan's network with a random start and everything in the tail. The arrays move to `device`
here, before there is optimizer state.
"""
Network(plan::Plan, device = Flux.cpu_device(); options...) = Network(
    plan.units,
    on_device(device, build(plan; options...)),
    device,
    plan.own,
)

function Network(units, chain::Chain, device, own = "")
    rules, kept = Dict{String, Any}(), Kept(length(units))
    return cut_at!(Network(units, chain, device, 0, Update(), rules, 0, kept, own), 0)
end

"Units before the cut, as a chain that shares the network's arrays."
trunk(net::Network) = net.chain[1:net.cut]

"Units from the cut on, as a chain that shares the network's arrays."
tail(net::Network) = net.chain[(net.cut + 1):length(net.units)]

"Move the boundary to before unit `cut`; copies no weight, forgets the optimizer's state."
function cut_at!(net::Network, cut::Integer)
    0 <= cut < length(net.units) ||
        throw(ArgumentError("the cut must be from 0 to $(length(net.units) - 1), got $cut"))
    net.cut = cut
    return prepare!(net, net.update)
end

"Set how `step!` updates the tail, with fresh optimizer state and a step count of 0."
function prepare!(net::Network, update::Update)
    net.update = update
    net.steps = 0
    empty!(net.kept.room.free)
    # The trunk stays in test mode, even inside a gradient; the tail follows the gradient.
    Flux.testmode!(trunk(net))
    for layer in tail(net).layers
        Flux.testmode!(layer, :auto)
        update.freeze_bn || continue
        foreach(inner -> inner isa BatchNorm && Flux.testmode!(inner), Flux.modules(layer))
    end
    net.rules = Dict{String, Any}()
    return net
end

"The optimizer's state, made when it is first asked for: who only predicts does without."
function rules!(net::Network)
    isempty(net.rules) || return net.rules
    rule = optimizer_rule(net.update)
    for (name, array) in parameters(net)
        net.rules[name] = Optimisers.setup(rule, array)
    end
    return net.rules
end
