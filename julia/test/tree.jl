using PyFluxTransfer: assemble, fits, held, leaves

@testset "$name has the plan's layers in its order" for name in keys(TREES)
    body = TREES[name][1]
    @test all(fits(leaf, layer) for ((leaf, _), layer) in zip(leaves(assemble(body)), held(body)))
    @test length(leaves(assemble(body))) == length(held(body))
end

@testset "names of tensors" begin
    names = keys(state(tree_network("encoder")))
    @test "a.in_proj_weight" in names && "a.in_proj_bias" in names
    @test "a.out.weight" in names && "e" in names && "b.bias" in names
    @test Set(["b", "c"]) ⊆ keys(state(tree_network("stem")))
    @test size(state(tree_network("stem"))["c"]) == (8, 10, 1)
end

@testset "an activation belongs to the layer before it" begin
    layers = assemble(TREES["inverted"][1].nodes[2]).layers
    @test length(layers) == 7
    @test layers[2].λ === swish
end

# By finite differences: the loss moves as the gradient says when all weights move along it.
@testset "$name learns" for name in ("inverted", "inception", "stem", "encoder", "next")
    net = tree_network(name)
    layer = net.chain[1]
    Flux.testmode!(layer) # statistics of a batch would move, too
    x = tree_input(name)
    target = randn(MersenneTwister(4), Float32, size(layer(x)))
    loss(layer) = sum(target .* layer(x)) / length(target)
    gradient = Flux.gradient(loss, layer)[1]
    arrays = filter(
        t -> !(t.field in (:μ, :σ²)),
        PyFluxTransfer.tensors(net.units[1], layer, gradient),
    )
    @test all(t -> PyFluxTransfer.gradient(t) isa AbstractArray, arrays)
    square = sum(sum(abs2, PyFluxTransfer.gradient(t)) for t in arrays)
    before, step = loss(layer), 1.0f-2 / sqrt(square)
    foreach(t -> PyFluxTransfer.array(t) .+= step .* PyFluxTransfer.gradient(t), arrays)
    @test loss(layer) - before ≈ step * square rtol = 0.05
end
