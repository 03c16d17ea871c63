using PyFluxTransfer: fold, rewrite

@testset "BatchNorm is folded" begin
    conv, norm = Conv((3, 3), 2 => 4), BatchNorm(4)
    for field in (:γ, :β, :μ)
        copyto!(getproperty(norm, field), randn(Float32, 4))
    end
    norm.σ² .= rand(Float32, 4) .+ 0.5f0
    conv.bias .= randn(Float32, 4)
    x = randn(Float32, 5, 5, 2, 1)
    weight, bias = fold(conv, norm)
    patch = vec(x[1:3, 1:3, :, 1])
    @test transpose(weight) * patch .+ bias ≈
        Flux.testmode!(norm)(conv(x))[1, 1, :, 1] rtol = 1.0e-4
end

@testset "$name" for name in ("resnet18", "squeezenet1_1", "mobilenet_v2", "efficientnet_lite0")
    net = Network(read_plan(name))
    load!(net, Dict(k => endswith(k, "running_var") ? abs.(v) .+ 1 : v for (k, v) in state(net)))
    cut_at!(net, length(net.units) - 1)
    x = images(3; width = 65, height = 52)
    for (unit, layer) in zip(net.units, trunk(net).layers)
        @test (rewrite(unit, layer) === nothing) ==
            (unit.kind in (:avgpool, :dense, :dropout, :flatten))
    end
    plain = trunk(net)(x)
    @test embed(net, x) ≈ plain rtol = 1.0e-4
    @test embed(net, x) == embed(net, x)
    # One image, and more images than pass at once.
    @test embed(net, x[:, :, :, 2:2]) ≈ selectdim(plain, ndims(plain), 2:2) rtol = 1.0e-4
    many = embed(net, repeat(x, 1, 1, 1, 4))
    @test selectdim(many, ndims(many), 10:12) ≈ plain rtol = 1.0e-4
end
