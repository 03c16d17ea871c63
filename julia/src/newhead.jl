# Other classes on the same trunk.

"""
    with_head(model::Classifier, names) -> Classifier

A new classifier for these class names: the last layer is new and random, everything before it is
copied. Hidden layers of the head stay; the cut lies before the new layer, and the temperature is 1.

Throws `ArgumentError` for names that are equal or empty, for less than two, and for a network whose
classifier does not end as a new head does (MobileNet's and SqueezeNet's own 1000 classes): such a one is
given a head in Python once, `net.with_head(["ants", "bees"]).save("new.safetensors")`.

```julia
model = with_head(PyFluxTransfer.open("bees.safetensors"), ["cats", "dogs", "mice"])
```
"""
function with_head(model::Classifier, names)
    wanted = checked_names(collect(String, names))
    plan = plan_row(model.header["plan"])
    head = head_like(model.header["head"], plan["units"])
    last = plan["units"][end]
    last["options"]["out"] = length(wanted)
    last["layers"][end]["shape"][1] = length(wanted)
    header = merge(
        model.header,
        Dict{String, Any}(
            "classes" => wanted,
            "head" => merge(head, Dict{String, Any}("classes" => length(wanted))),
            "plan" => haskey(plan, "own") ? JSON.json(plan) : sprint(TOML.print, plan),
            "belonging" => nothing,
        ),
    )
    net = Network(parse_plan(header["plan"]), model.net.device)
    load!(net, merge(state(model.net), Dict(t.name => outer(t) for t in tensors_of_last(net))))
    cut_at!(net, length(net.units) - 1)
    info = filter(((name, _),) -> name == "weights", model.info)
    none = Dict{String, Array{Float32}}()
    return Classifier(net, wanted, model.preprocessing, 1.0, model.architecture, info, header, none)
end

tensors_of_last(net::Network) = tensors(net.units[end], net.chain.layers[end])

function checked_names(names)
    length(names) >= 2 || throw(ArgumentError("a head needs at least 2 classes, got $names"))
    allunique(names) || throw(ArgumentError("class names must differ from each other, got $names"))
    all(name -> isvalid(name) && !isempty(strip(name)), names) ||
        throw(ArgumentError("class names must be text that is not empty, got $names"))
    return names
end

# The header's head for a network that keeps all of its units but the last Dense. One with its 1000
# classes has none yet: where a new head would be made of the same units it becomes that.
function head_like(head, units)
    head isa AbstractDict && return head
    own = filter(unit -> unit["stage"] == "head", units)
    hidden = count(unit -> unit["kind"] == "dense", own) > 1
    plain = [unit["kind"] for unit in own] == ["avgpool", "flatten", "dense"] &&
        !occursin('.', own[end]["name"])
    hidden ||
        plain ||
        throw(ArgumentError(
            "this network's own classifier cannot be replaced here. Give it a head in Python once: " *
                "net.with_head([\"ants\", \"bees\"]).save(\"new.safetensors\")",
        ))
    return Dict{String, Any}(
        "hidden" => Int[],
        "dropout" => 0.0,
        "activation" => "relu",
        "keep" => hidden ? "hidden" : nothing,
    )
end
