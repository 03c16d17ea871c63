using PyFluxTransfer: CeilMaxPool, WindowMax, WindowMean, ceil_windows

@testset "pooling that keeps the last window" begin
    @test ceil_windows(6, 3, 2) == 3
    @test ceil_windows(7, 3, 2) == 3
    @test ceil_windows(5, 2, 3) == 2
    @test ceil_windows(4, 1, 3) == 2 # a window beyond the image is dropped
    x = reshape(Float32.(1:36), 6, 6, 1, 1) .- 100
    @test CeilMaxPool(3, 2)(x)[:, 1, 1, 1] == [15, 17, 18] .- 100
end

# Along a random direction, by differences.
@testset "gradients of pooling $w × $h" for w in (1, 2, 5, 9), h in (1, 3, 8)
    for layer in (WindowMax(3, 1, 1), WindowMax(3, 2, 1), WindowMean(3, 1, 1), CeilMaxPool(2, 2, 1))
        x = reshape(shuffle(MersenneTwister(1), Float32.(1:(w * h * 4))), w, h, 2, 2)
        y, back = Flux.pullback(layer, x)
        weights = randn(MersenneTwister(2), Float32, size(y))
        way = rand(MersenneTwister(3), Float32, size(x)) ./
            4 # less than half of what two numbers differ by
        slope = sum(weights .* (layer(x .+ way) .- y))
        @test sum(back(weights)[1] .* way) ≈ slope rtol = 1.0e-2 atol = 1.0e-4
    end
end

@testset "the gradient goes to the largest, however near another is" begin
    x = reshape(Float32[1, 1.0001, 1.0002, 1], 2, 2, 1, 1)
    gradient(x) = Flux.gradient(sum ∘ WindowMax(2, 2, 0), x)[1][:, :, 1, 1]
    @test gradient(x) == [0 1; 0 0]
    @test gradient(ones(Float32, 2, 2, 1, 1)) == [1 0; 0 0] # of equal ones to the first
    @test gradient(fill(NaN32, 2, 2, 1, 1)) == zeros(2, 2)
end
