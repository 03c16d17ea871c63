model = PyFluxTransfer.open(tiny_bundle())
image = [UInt8((7x + 13y + 101c) % 256) for y in 0:29, x in 0:39, c in 0:2]

answer = classify(model, image)
x = reshape(preprocess(model.preprocessing, image), 16, 16, 3, 1)

@testset "sorted probabilities of named classes" begin
    @test answer isa Vector{Pair{String, Float32}}
    @test sort(first.(answer)) == ["ants", "bees", "été"]
    @test issorted(last.(answer); rev = true) && sum(last.(answer)) ≈ 1
    @test classify(model, image; top = 2) == answer[1:2]
    @test classify(model, image; top = 9) == answer
    @test_throws "top must be at least 1" classify(model, image; top = 0)
end

@testset "the temperature is applied" begin
    scores = vec(Flux.testmode!(PyFluxTransfer.open(tiny_bundle()).net.chain)(x))
    @test Dict(answer) == Dict(model.classes .=> vec(probabilities(model, x)))
    @test vec(probabilities(model, x)) ≈ softmax(scores ./ 1.25f0) rtol = 1.0e-4
end

@testset "in test mode, whatever the layers' modes, which stay" begin
    Flux.trainmode!(model.net.chain)
    @test classify(model, image) == answer
    @test model.net.chain[7].active === true && model.net.chain[1][2].active === true
    Flux.testmode!(model.net.chain, :auto)
    @test classify(model, image) == answer && model.net.chain[7].active === nothing
end

@testset "weights that were changed are seen" begin
    other = PyFluxTransfer.open(tiny_bundle())
    classify(other, image)
    other.net.chain[1][1].weight .*= -1
    load = Network(tiny_plan())
    load!(load, state(other.net))
    @test probabilities(other, x) ≈ softmax(logits(load, embed(load, x)) ./ 1.25f0) rtol = 1.0e-4
    @test !isapprox(probabilities(other, x), probabilities(model, x); rtol = 1.0e-3)
end

@testset "classes of equal probability keep their order" begin
    even = PyFluxTransfer.open(tiny_bundle())
    even.net.chain[end].weight .= 0
    even.net.chain[end].bias .= 0
    @test first.(classify(even, image)) == even.classes
end

broken = PyFluxTransfer.open(tiny_bundle())
broken.net.chain[end].bias .= Inf
@test_throws DomainError classify(broken, image)
