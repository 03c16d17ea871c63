net = tiny_network()
x = images()
whole = logits(net, embed(net, x))
@test size(whole) == (3, 4)
@test embed(net, x) === x
for cut in 1:7
    cut_at!(net, cut)
    @test logits(net, embed(net, x)) ≈ whole rtol = 1.0e-4
    @test embed(net, x) == embed(net, x)
end
@test PyFluxTransfer.apply(net, x, 0, 8) ≈ whole rtol = 1.0e-4
@test PyFluxTransfer.apply(net, x, 0, 3) ≈ trunk(cut_at!(net, 3))(x)
@test PyFluxTransfer.trace(net, (17, 13, 3, 1)) ==
    [(9, 7, 8, 1), (4, 3, 8, 1), (4, 3, 6, 1), (1, 1, 6, 1), (6, 1), (5, 1), (5, 1), (3, 1)]
# New weights reach the rewritten trunk.
old = embed(net, x)
load!(net, random_state(net; seed = 3))
@test !(embed(net, x) ≈ old)

@testset "what a unit does not take" begin
    @test_throws DimensionMismatch PyFluxTransfer.apply(net, zeros(Float32, 5, 5, 2, 1), 0, 1)
    @test_throws DimensionMismatch PyFluxTransfer.apply(net, zeros(Float32, 5, 5), 1, 2)
    @test_throws DimensionMismatch PyFluxTransfer.apply(net, zeros(Float32, 5, 5, 3, 1), 1, 2)
    # A window that is larger than the image.
    @test_throws DimensionMismatch PyFluxTransfer.apply(net, zeros(Float32, 1, 1, 8, 1), 1, 2)
    @test_throws DimensionMismatch PyFluxTransfer.apply(net, zeros(Float32, 7, 5), 5, 6)
    @test_throws DimensionMismatch step!(
        cut_at!(net, 0),
        zeros(Float32, 5, 5, 2, 1),
        [1],
        Dict("stem" => 0.0),
    )
end

@testset "channels that reach a unit" begin
    units = read_plan("squeezenet1_1").units
    names = [unit.name for unit in units]
    before(name) = PyFluxTransfer.channels_before(units, findfirst(==(name), names))
    @test before("features.0") == 3
    @test before("features.2") == 64
    @test before("features.5") == 128
    @test before("classifier.1") == 512
    @test before("avgpool") == 1000
end
