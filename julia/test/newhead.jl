model = PyFluxTransfer.open(tiny_bundle())
Random.seed!(1)
other = with_head(model, ["a", "b", "c", "d"])

@testset "the last layer is new, the rest is copied" begin
    @test other.classes == ["a", "b", "c", "d"] && size(other.net.chain[end].weight) == (4, 5)
    before, after = state(model.net), state(other.net)
    @test all(before[name] == after[name] for name in keys(before) if !startswith(name, "fc.3"))
    @test !any(iszero, other.net.chain[end].weight)
    other.net.chain[1][1].weight .= 0
    @test state(model.net) == before
    @test other.net.cut == 7 && other.temperature == 1 && isempty(other.info)
end

@testset "it is saved and opened as what it is" begin
    path = joinpath(mktempdir(), "other.safetensors")
    again = PyFluxTransfer.open(PyFluxTransfer.save(path, other))
    @test again.classes == other.classes && state(again.net) == state(other.net)
    @test again.header["head"] == Dict("classes" => 4, "hidden" => [5], "dropout" => 0.5)
end

@testset "a network with its own 1000 classes" begin
    units(kinds, name) = [Dict("stage" => "head", "kind" => kind, "name" => name) for kind in kinds]
    head(kinds, name) = PyFluxTransfer.head_like(nothing, units(kinds, name))
    @test head(["avgpool", "flatten", "dense"], "fc")["keep"] === nothing
    @test head(["avgpool", "flatten", "dense", "dense"], "classifier.6")["keep"] == "hidden"
    @test_throws "Give it a head in Python" head(["avgpool", "flatten", "dense"], "classifier.1")
    @test_throws "Give it a head in Python" head(["conv", "avgpool", "flatten"], "classifier")
end

@test_throws "at least 2 classes" with_head(model, ["a"])
@test_throws "must differ" with_head(model, ["a", "a"])
@test_throws "not empty" with_head(model, ["a", " "])
