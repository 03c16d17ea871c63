using PyFluxTransfer: ChannelNorm, Embed, Factor, Learnt, Pointwise, WindowMean, beside, resampling

@testset "norm over the channels" begin
    norm = ChannelNorm(randn(Float32, 5), randn(Float32, 5), 1.0f-6)
    tokens = randn(Float32, 5, 7, 2)
    own = Flux.LayerNorm(5; eps = 1.0f-3) # Flux squares it
    copyto!(own.diag.scale, norm.weight)
    copyto!(own.diag.bias, norm.bias)
    @test norm(tokens) ≈ own(tokens) rtol = 1.0e-5
    # Images hold the same numbers with the channels behind the places.
    images = permutedims(reshape(tokens, 5, 7, 1, 2), (2, 3, 1, 4))
    @test norm(images)[:, 1, :, 1] ≈ permutedims(norm(tokens)[:, :, 1])
    # What is too small for Float32's square of eps.
    @test norm(zeros(Float32, 5, 1)) ≈ reshape(norm.bias, 5, 1)
end

@testset "over the channels of images, tokens and vectors" begin
    dense = Dense(3 => 4, relu)
    dense.bias .= randn(Float32, 4)
    images = randn(Float32, 2, 5, 3, 2)
    @test Pointwise(dense)(images)[2, 3, :, 1] ≈ dense(images[2, 3, :, 1])
    @test Pointwise(dense)(images[1, :, :, 1]') ≈ dense(images[1, :, :, 1]')
    factor = Factor(reshape(Float32[1, 2, 3], 1, 1, 3))
    @test factor(images)[:, :, 2, :] ≈ 2 .* images[:, :, 2, :]
    @test factor(ones(Float32, 3, 4, 2))[:, 1, 1] == 1:3
end

@testset "means count the zeros around the image" begin
    @test WindowMean(3, 1, 1)(ones(Float32, 3, 3, 1, 1))[:, :, 1, 1] ≈ [4 6 4; 6 9 6; 4 6 4] ./ 9
end

@testset "branches lie side by side in the channels" begin
    @test size(beside(zeros(4, 4, 2, 1), zeros(4, 4, 3, 1))) == (4, 4, 5, 1)
    @test size(beside(zeros(2, 4), zeros(3, 4))) == (5, 4)
end

@testset "positions" begin
    # torch.nn.functional.interpolate(arange(4.), 6, mode="bicubic"), corners aligned and not
    aligned = resampling(4, 6, 0.0, true) * (0:3)
    @test aligned ≈ [0, 0.504, 1.248, 1.752, 2.496, 3] atol = 2.0e-6
    free = resampling(4, 6, 0.0, false) * (0:3)
    @test free ≈ [-0.0868056, 0.40625, 1.2129627, 1.7870371, 2.59375, 3.0868058] atol = 1.0e-6
    @test sum(resampling(37, 16, 0.1, false); dims = 2) ≈ ones(16) atol = 1.0e-5

    embed = Embed(Learnt(randn(Float32, 2, 1, 1)), Learnt(randn(Float32, 2, 10, 1)), 3, 0.0, true)
    x = randn(Float32, 3, 3, 2, 2)
    tokens = embed(x)
    position = embed.position.value
    @test size(tokens) == (2, 10, 2)
    @test tokens[:, 1, 2] ≈ embed.token.value[:, 1, 1] .+ position[:, 1, 1]
    # Row by row: the fifth place is the second of the second row.
    @test tokens[:, 1 + 5, 1] ≈ x[2, 2, :, 1] .+ position[:, 1 + 5, 1]
    # Corners stay where they are, whatever the grid.
    wide = embed(zeros(Float32, 5, 2, 2, 1))
    @test wide[:, end, 1] ≈ position[:, end, 1] rtol = 1.0e-5
    @test wide[:, 1 + 5, 1] ≈ position[:, 1 + 3, 1] rtol = 1.0e-5
end
