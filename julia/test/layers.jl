using PyFluxTransfer: AdaptiveMean, PadSame, same_padding

@testset "padding of TensorFlow" begin
    @test same_padding(8, 3, 2) == 1 # right and below only
    @test same_padding(7, 3, 2) == 2
    @test same_padding(8, 3, 1) == 2
    @test same_padding(8, 1, 2) == 0
    x = ones(Float32, 8, 7, 1, 1)
    y = PadSame(3, 2)(x)
    @test size(y) == (9, 9, 1, 1)
    @test all(iszero, y[9, :, 1, 1]) && all(isone, y[1:8, 2:8, 1, 1])
    @test PadSame(1, 2)(x) === x
end

@testset "adaptive mean" begin
    x = randn(Float32, 10, 7, 2, 3)
    @test AdaptiveMean(1)(x) ≈ sum(x; dims = (1, 2)) ./ 70
    # PyTorch's windows of 10 → 4: 0:3, 2:5, 5:8, 7:10
    @test AdaptiveMean(4)(x)[2, 1, 1, 1] ≈ sum(x[3:5, 1:2, 1, 1]) / 6
    small = randn(Float32, 1, 1, 2, 3)
    @test AdaptiveMean(7)(small) ≈ repeat(small, 7, 7)
    square = randn(Float32, 14, 14, 2, 1)
    @test AdaptiveMean(7)(square) ≈ Flux.AdaptiveMeanPool((7, 7))(square)
    same = randn(Float32, 7, 7, 2, 1)
    @test AdaptiveMean(7)(same) === same
    loss(x) = sum(abs2, AdaptiveMean(4)(x))
    gradient = Flux.gradient(loss, x)[1]
    step = zeros(size(x)) # float64: a difference of sums in float32 is mostly rounding
    step[4, 2, 1, 1] = 0.01
    @test gradient[4, 2, 1, 1] ≈ (loss(x .+ step) - loss(x .- step)) / 0.02 atol = 1.0e-5
end

@testset "exact gelu" begin
    @test PyFluxTransfer.gelu(1.0) ≈ 0.8413447460685429
    @test PyFluxTransfer.gelu(-2.0f0) ≈ -0.0455003f0 rtol = 1.0e-5
    @test PyFluxTransfer.gelu(1.0f0) isa Float32
end
