# What every process needs at its first prediction and its first step, compiled with the package.

"A unit that describes a layer as it is; `kind` and `options` say how to rewrite it."
function unit_of(layer, name, kind; options...)
    held = Layer[
        Layer("$name.$i", operation(leaf), shape(leaf), has_bias(leaf))
        for (i, (leaf, _)) in enumerate(leaves(layer))
    ]
    return Unit(name, kind, "s", Dict{String, Any}(string(k) => v for (k, v) in options), held)
end

"The plan of a ResNet, read off Metalhead's network."
function plan_of(model, depth, kind)
    stem, norm, blocks..., dense = pieces(model.layers)
    units = Unit[
        unit_of(Chain(stem, norm), "stem", :conv; activation = "relu", padding = 3, :out => 64),
        unit_of(nothing, "pool", :maxpool; kernel = 3, stride = 2, padding = 1, ceil = false),
    ]
    width = 64
    for (i, layer) in enumerate(blocks)
        held = first.(leaves(layer))
        out = last(held).chs
        stride = held[kind === :basic ? 1 : 3].stride[1]
        push!(units, unit_of(layer, "block$i", kind; :in => width, :out => out, stride))
        width = out
    end
    push!(units, unit_of(nothing, "mean", :avgpool; size = 1))
    push!(units, unit_of(nothing, "flat", :flatten))
    push!(units, unit_of(nothing, "drop", :dropout; p = 0.1))
    push!(units, unit_of(dense, "head", :dense; :in => width))
    return Plan("ResNet", Any[depth], Dict{Symbol, Any}(), units)
end

"A small network of what ResNets lack: depthwise convolutions, gates, Dense layers with Dropout between."
function plan_of_others()
    o(; given...) = Dict{String, Any}(string(k) => v for (k, v) in given)
    inverted(name, width, stride, padding) = begin
        given = o(; :in => 8, :mid => 16, :out => width, kernel = 3, stride, padding, eps = 1.0e-5)
        given["residual"] = width == 8 && stride == 1
        unit_of(make_inverted(given), name, :inverted; (Symbol(k) => v for (k, v) in given)...)
    end
    stem = o(; :in => 3, :out => 8, kernel = 3, stride = 2, padding = "same", bias = false)
    merge!(stem, o(; norm = true, eps = 1.0e-5, activation = "relu6"))
    units = Unit[
        unit_of(make_conv(stem), "stem", :conv; (Symbol(k) => v for (k, v) in stem)...),
        inverted("block1", 8, 1, 1),
        inverted("block2", 12, 2, "same"),
        unit_of(nothing, "mean", :avgpool; size = 1),
        unit_of(nothing, "flat", :flatten),
        unit_of(nothing, "drop", :dropout; p = 0.1),
        unit_of(Dense(12 => 3), "head", :dense; :in => 12, :out => 3, activation = "none"),
    ]
    return Plan("", Any[], Dict{Symbol, Any}(), units)
end

"What every process does with a network."
function go_through(net, x, y)
    load!(net, state(net))
    trace(net, size(x))
    for cut in (0, length(net.units) - 1), optimizer in ("adamw", "adam", "sgd")
        cut_at!(net, cut)
        prepare!(net, Update(; optimizer))
        step!(net, embed(net, x), y, Dict("s" => 0.1))
        logits(net, embed(net, x))
        memory(net)
    end
    return nothing
end

# A plan as it comes from another language.
const PLAN_TEXT = """
constructor = ""
arguments = []
keywords = {}
[[units]]
name = "stem"
kind = "conv"
stage = "s"
options = {in = 3, out = 8, kernel = 3, stride = 2, padding = 1, bias = false, norm = true, eps = 1e-5, activation = "relu"}
layers = [{name = "stem.0", op = "conv", shape = [8, 3, 3, 3], bias = false}, {name = "stem.1", op = "norm", shape = [8], bias = true}]
[[units]]
name = "mean"
kind = "avgpool"
stage = "s"
options = {size = 1}
layers = []
[[units]]
name = "flat"
kind = "flatten"
stage = "s"
options = {}
layers = []
[[units]]
name = "head"
kind = "block"
stage = "s"
options = {in = 8, out = 3, axes = 2, ends = 2}
body = {op = "chain", nodes = [{op = "dense", options = {}, layer = {name = "head", op = "dense", shape = [3, 8], bias = true}}]}
"""

"What another language is answered."
function asked(name, arguments...; options...)
    call = Dict("name" => name, "arguments" => sent.(arguments), "options" => Dict(options))
    text = JSON.json(call)
    return parse_json(GC.@preserve(text, unsafe_string(enter(pointer(text)))), error)
end

sent(value) = value
sent(values::Union{Vector{Any}, Vector{String}}) = sent.(values)
sent(x::Array{<:Number}) = leaving(x)["array"]

"What another language does with a network."
function go_over_the_bridge(x)
    number = asked("create", PLAN_TEXT, "cpu")["value"]
    asked("load_gpu")
    asked("name_of_device", number)
    asked("name_of_device", -1)
    held = state(NETWORKS[number])
    names, arrays = collect(keys(held)), Any[values(held)...]
    asked("store_state", number, names, arrays)
    asked("load_state", number, names, arrays)
    asked("cut_network", number, 3)
    asked("embed_batch", number, x)
    features = embed_batch(number, x)
    asked("logits_batch", number, features)
    asked("trace_network", number, reverse(size(x)))
    rule = (optimizer = "adamw", weight_decay = 0.01, momentum = 0.9, beta1 = 0.9, beta2 = 0.999)
    rest = (eps = 1.0e-8, label_smoothing = 0.1, freeze_bn = false, seed = 0)
    asked("prepare_network", number; rule..., rest...)
    asked("step_batch", number, features, [0, 1], ["s"], Any[0.1], nothing)
    asked("step_batch", number, features, [0, 1], ["s"], Any[0.1], ones(Float32, 3))
    held = memory(NETWORKS[number])
    names, arrays = collect(keys(held)), Any[outside(Array(each)) for each in values(held)]
    asked("store_memory", number, names, arrays)
    asked("load_memory", number, asked("steps_done", number)["value"], names, arrays)
    asked("wait_for", number)
    asked("report")
    return asked("release", number)
end

@setup_workload begin
    x, y = zeros(Float32, 32, 32, 3, 2), [1, 2]
    @compile_workload begin
        for (depth, kind) in ((18, :basic), (50, :bottleneck))
            go_through(Network(plan_of(Metalhead.ResNet(depth), depth, kind)), x, y)
        end
        go_through(Network(plan_of_others()), x, y)
        go_over_the_bridge(x)
    end
end
