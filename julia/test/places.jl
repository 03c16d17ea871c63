using PyFluxTransfer: fast_erf, fast_exp, fast_gelu, fast_sigmoid, fast_silu, gelu
using SpecialFunctions: erf

@testset "functions in vectors" begin
    x = Float32.(-20:0.003:20)
    @test maximum(abs, fast_exp.(x) ./ exp.(x) .- 1) < 3.0e-7
    @test maximum(abs, fast_erf.(x) .- erf.(x)) < 5.0e-7
    @test maximum(abs, fast_gelu.(x) .- gelu.(x)) < 2.0e-6
    @test maximum(abs, fast_sigmoid.(x) .- sigmoid.(x)) < 3.0e-7
    @test maximum(abs, fast_silu.(x) .- swish.(x)) < 2.0e-6
    @test 0 < fast_exp(-1.0f10) < 1.0e-37 && isfinite(fast_exp(1.0f10))
    @test fast_silu(-1.0f4) ≈ 0 atol = 1.0e-30
end
