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

@testset "changed weights are seen" begin
    fresh() = logits(Network(net.units, net.chain, Flux.cpu_device()), x)
    cut_at!(net, 0)
    old = logits(net, x)
    @test logits(net, x) == old
    net.chain[1].layers[1].weight .*= 2
    @test logits(net, x) != old && logits(net, x) == fresh()
    # One number of a statistic, and another layer in a unit's place.
    old = logits(net, x)
    net.chain[3].layers[2].μ[1] -= 10
    @test logits(net, x) != old && logits(net, x) == fresh()
    old = logits(net, x)
    net.chain.layers[3] = deepcopy(net.chain.layers[3])
    net.chain[3].layers[1].weight .+= 1
    @test logits(net, x) != old && logits(net, x) == fresh()
    # Flux's own training.
    state = Flux.setup(Flux.Descent(0.1), net.chain)
    old = logits(net, x)
    grads = Flux.gradient(m -> sum(abs2, m(x)), net.chain)
    Flux.update!(state, net.chain, grads[1])
    @test logits(net, x) != old && logits(net, x) == fresh()
    # A caller that promises to change nothing gets what was prepared.
    old = logits(net, x)
    net.chain[1].layers[1].weight .*= 2
    @test logits(net, x; watch = false) == old
    @test logits(net, x) == fresh()
end

@testset "checksum" begin
    using PyFluxTransfer: checksum
    for length in (1, 63, 64, 1000)
        a = randn(Float32, length)
        b = copy(a)
        @test checksum(a) == checksum(b)
        for i in unique((1, length ÷ 2 + 1, length))
            b[i] = nextfloat(b[i])
            @test checksum(a) != checksum(b)
            b[i] = a[i]
        end
        length > 1 && @test checksum(a) != checksum(circshift(a, 1))
    end
    # Any kind of number, anywhere in a layer; generators and names are not weights.
    layer(x) = Chain(SkipConnection(Dense(x, false), +), BatchNorm(2))
    @test checksum(layer([1.0 2.0])) == checksum(layer([1.0 2.0]))
    @test checksum(layer([1.0 2.0])) != checksum(layer([1.0 3.0]))
    @test checksum(Dropout(0.5; rng = MersenneTwister(1))) ==
        checksum(Dropout(0.5; rng = MersenneTwister(2)))
    @test checksum(:a) == checksum("b") == checksum(Float32)
end

@testset "a network for evaluation alone" begin
    model = Inference(net)
    whole = model(x)
    @test whole == logits(model, embed(model, x)) == logits(net, embed(net, x))
    @test PyFluxTransfer.apply(model, x, 0, 3) == PyFluxTransfer.apply(net, x, 0, 3)
    # What happens to the network later does not reach it.
    load!(net, random_state(net; seed = 4))
    @test model(x) == whole
    @test !(logits(net, embed(net, x)) ≈ whole)
end

@testset "any number of tasks may run one network" begin
    big = Network(read_plan("resnet18"))
    cut_at!(big, length(big.units) - 1)
    batches = [images(3 + i; width = 64, height = 64) for i in 1:6]
    wanted = [embed(big, batch) for batch in batches]
    PyFluxTransfer.forget!(big, eachindex(big.units)) # they all find that it must be prepared
    usual = PyFluxTransfer.BLAS.get_num_threads()
    for one in (big, Inference(big)), _ in 1:3
        tasks = [Threads.@spawn embed(one, batch) for batch in batches]
        @test all(fetch(task) ≈ right for (task, right) in zip(tasks, wanted))
    end
    @test PyFluxTransfer.BLAS.get_num_threads() == usual
    @test allunique(big.kept.pool.free)
end

@testset "images that cannot be taken" begin
    message(f) = try
        f()
        ""
    catch error
        sprint(showerror, error)
    end
    @test occursin(
        "images must be Float32, got Float64",
        message(() -> embed(cut_at!(net, 1), Float64.(x))),
    )
    @test occursin("got Float64. Use Float32.(x)", message(() -> logits(net, zeros(9, 7, 8, 1))))
    @test occursin("at least one image", message(() -> embed(net, x[:, :, :, 1:0])))
    @test occursin("at least one image", message(() -> Inference(net)(x[:, :, :, 1:0])))
end
