const open_bundle = PyFluxTransfer.open

path = tiny_bundle()
model = open_bundle(path)

@testset "everything that the file tells is there" begin
    @test model.classes == ["ants", "bees", "été"]
    @test model.temperature == 1.25 && model.architecture == "tiny" && model.net.cut == 3
    @test model.preprocessing ==
        Preprocessing(;
            resize = 18,
            crop = 16,
            mean = (0.1, 0.2, 0.3),
            std = (0.5, 0.25, 0.125),
            interpolation = "bicubic",
            background = (1, 2, 3),
        )
    @test model.info["training"] == Dict("best" => 0.1 + 0.2, "decay" => nothing)
    @test state(model.net) == state(tiny_network())
    @test sprint(show, model) == "Classifier(tiny, 8 units, 3 classes: ants, bees, été)"
end

@testset "what is saved is what was opened" begin
    copy = joinpath(mktempdir(), "copy.safetensors")
    @test PyFluxTransfer.save(copy, model) == copy
    one, other = PyFluxTransfer.read_tensors.((path, copy))
    @test one[1] == other[1]
    @test JSON.parse(one[2]["pyflux_transfer"]) == JSON.parse(other[2]["pyflux_transfer"])
end

@testset "belonging is kept as it is, and format 3 has none" begin
    beside = Dict("belonging.mean" => Float32[1, 2], "belonging.directions" => Float32[1 0; 0 1])
    header = tiny_header(; belonging = Dict("threshold" => 0.5))
    known = tiny_bundle(; tensors = merge(state(tiny_network()), beside), header)
    copy = joinpath(mktempdir(), "copy.safetensors")
    @test state(open_bundle(known).net) == state(tiny_network())
    PyFluxTransfer.save(copy, open_bundle(known))
    tensors, metadata = PyFluxTransfer.read_tensors(copy)
    @test all(tensors[name] == x for (name, x) in beside)
    @test JSON.parse(metadata["pyflux_transfer"])["belonging"]["threshold"] == 0.5
    older = delete!(tiny_header(; format = 3), "belonging")
    @test open_bundle(tiny_bundle(; header = older)).header["belonging"] === nothing
end

@testset "what was changed is saved" begin
    copy = joinpath(mktempdir(), "copy.safetensors")
    changed = open_bundle(path)
    changed.net.chain[end].weight .*= 2
    cut_at!(changed.net, 0)
    changed.temperature = 1
    changed.info["note"] = "from Julia"
    changed.preprocessing = Preprocessing(; fit = "pad")
    PyFluxTransfer.save(copy, changed)
    again = open_bundle(copy)
    @test again.net.chain[end].weight == 2 .* model.net.chain[end].weight
    @test again.net.cut == 0 && again.temperature == 1 && again.info["note"] == "from Julia"
    @test again.preprocessing.fit == "pad"
    @test model.temperature == 1.25 && !haskey(model.info, "note")
end

@testset "weights that are no numbers are not saved" begin
    broken = open_bundle(path)
    broken.net.chain[end].bias[1] = NaN
    place = joinpath(mktempdir(), "broken.safetensors")
    @test_throws "'fc.3.bias' holds NaN" PyFluxTransfer.save(place, broken)
    @test !isfile(place)
end

refused(; header = tiny_header(), tensors = state(tiny_network())) = something(
    refusal(() -> open_bundle(tiny_bundle(; header, tensors))),
    "nothing was refused",
)

@testset "refused: $says" for (says, changes) in (
        ("format 2, which does not hold the network's plan. Open and save it once", (; format = 2)),
        ("format 6; this version reads 3 to 5. Upgrade", (; format = 6)),
        ("names no format", (; format = "3")),
        ("colour are missing or unknown", (; colour = 1)),
        ("names 2 classes for 3 outputs", (; classes = ["a", "b"])),
        ("classes must be names", (; classes = ["a", "b", "a"])),
        ("classes must be names", (; classes = ["a", "b", " "])),
        ("classes must be names", (; classes = ["a", "b", 3])),
        ("classes must be a", (; classes = "abc")),
        ("temperature must be a positive number, got 0", (; temperature = 0)),
        ("is no JSON", (; temperature = Inf)),
        ("temperature must be a Real", (; temperature = true)),
        ("the cut must be from 0 to 7, got 8", (; cut = 8)),
        ("cannot be used", (; cut = "head")),
        ("info must be a", (; info = 3)),
        ("architecture must be a String", (; architecture = 3)),
        ("cannot be used", (; preprocessing = nothing)),
        ("unknown field 'colour'", (; preprocessing = Dict("colour" => 1))),
        ("crop must be positive", (; preprocessing = Dict("crop" => 0))),
        ("cannot be used", (; preprocessing = Dict("crop" => 2.5))),
        ("cannot be used", (; preprocessing = Dict("mean" => ["0", "0", "0"]))),
        ("cannot be used", (; preprocessing = Dict("mean" => [0.5, 0.5]))),
        ("cannot be used", (; plan = 3)),
        ("cannot be used", (; plan = "constructor = ")),
        ("cannot be used", (; plan = "constructor = \"\"")),
        ("is no JSON", "{"),
        ("names no format", "[1]"),
        ("names no format", "null"),
    )
    header = changes isa String ? changes : tiny_header(; changes...)
    @test occursin(says, refused(; header))
end

@testset "a plan may call nothing but Metalhead's constructors" begin
    for name in ("include", "eval", "classifier", "nothing_of_that_name", "Flux")
        plan = tiny_plan()
        text = plan_text(Plan(name, ["x"], plan.keywords, plan.units))
        @test occursin("no network '$name'", refused(; header = tiny_header(; plan = text)))
    end
end

@testset "a plan needs no more than the file holds" begin
    big = replace(plan_text(tiny_plan()), "shape = [3, 5]" => "shape = [3, 500000]")
    @test occursin("numbers, the file holds", refused(; header = tiny_header(; plan = big)))
    bigger = replace(plan_text(tiny_plan()), "shape = [3, 5]" => "shape = [3, 5000000]")
    @test occursin("beyond 0", refused(; header = tiny_header(; plan = bigger)))
end

@testset "tensors that do not fit are named" begin
    given = state(tiny_network())
    without = delete!(copy(given), "fc.3.bias")
    @test occursin(
        "weights lack 'fc.3.bias'",
        refused(; tensors = merge(without, Dict("more" => zeros(Float32, 9)))),
    )
    more = merge(given, Dict("more" => zeros(Float32, 1)))
    @test occursin("hold 'more'", refused(; tensors = more))
    misshaped = merge(given, Dict("fc.3.bias" => zeros(Float32, 4)))
    @test occursin("'fc.3.bias' must have size", refused(; tensors = misshaped))
    bad = merge(given, Dict("fc.3.bias" => Float32[1, NaN, 3]))
    @test occursin("'fc.3.bias' holds NaN", refused(; tensors = bad))
end

bare = PyFluxTransfer.write_tensors(
    joinpath(mktempdir(), "bare.safetensors"),
    state(model.net),
    Dict{String, String}(),
)
@test_throws "bare weights" open_bundle(bare)
