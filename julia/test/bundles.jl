# Bundles to test with, as Python writes them: made here, so that no Python is needed.
using JSON, TOML

"A plan as text, the inverse of `parse_plan`."
function plan_text(plan::Plan)
    row(unit) = Dict(
        "name" => unit.name,
        "kind" => string(unit.kind),
        "stage" => unit.stage,
        "options" => unit.options,
        "layers" => [
            Dict("name" => l.name, "op" => string(l.op), "shape" => l.shape, "bias" => l.bias)
            for l in unit.layers
        ],
    )
    return sprint(
        TOML.print,
        Dict(
            "constructor" => plan.constructor,
            "arguments" => plan.arguments,
            "keywords" => Dict(string(k) => v for (k, v) in plan.keywords),
            "units" => row.(plan.units),
        ),
    )
end

"The header of a bundle of the tiny network; `changes` replace fields."
function tiny_header(; changes...)
    header = Dict{String, Any}(
        "format" => 5,
        "architecture" => "tiny",
        "classes" => ["ants", "bees", "été"],
        "head" => Dict("classes" => 3, "hidden" => [5], "dropout" => 0.5),
        "preprocessing" => Dict(
            "resize" => 18,
            "crop" => 16,
            "mean" => [0.1, 0.2, 0.3],
            "std" => [0.5, 0.25, 0.125],
            "interpolation" => "bicubic",
            "background" => [1, 2, 3],
        ),
        "cut" => 3,
        "info" => Dict(
            "engine" => "torch",
            "training" => Dict("best" => 0.1 + 0.2, "decay" => nothing),
        ),
        "temperature" => 1.25,
        "plan" => plan_text(tiny_plan()),
        "belonging" => nothing,
    )
    return merge(header, Dict{String, Any}(string(k) => v for (k, v) in changes))
end

"Write a bundle of the tiny network and return its path."
function tiny_bundle(
    path = joinpath(mktempdir(), "tiny.safetensors");
    tensors = state(tiny_network()),
    header = tiny_header(),
)
    text = header isa String ? header : JSON.json(header; allownan = true)
    return PyFluxTransfer.write_tensors(path, tensors, Dict("pyflux_transfer" => text))
end

"What is thrown, as text; nothing where nothing is."
function refusal(work)
    try
        work()
    catch error
        return sprint(showerror, error)
    end
    return nothing
end
