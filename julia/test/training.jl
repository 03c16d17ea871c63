using PyFluxTransfer: cross_entropy, load_memory!, memory, targets

x, y = images(), [1, 3, 2, 1]
rates(rate) = Dict("stem" => rate, "body" => rate, "head" => rate)

@testset "loss" begin
    z = randn(MersenneTwister(4), Float32, 3, 4)
    logp = NNlib.logsoftmax(z)
    soft, total = targets(y, 3, 0.0, nothing)
    @test cross_entropy(z, soft, total) ≈ -sum(logp[y[n], n] for n in 1:4) / 4
    # Smoothing and weights as torch.nn.CrossEntropyLoss documents them.
    w = Float32[1, 2, 4]
    soft, total = targets(y, 3, 0.1, w)
    hard = -sum(w[y[n]] * logp[y[n], n] for n in 1:4) / sum(w[y])
    smooth = -sum(w .* logp) / sum(w[y])
    @test cross_entropy(z, soft, total) ≈ 0.9 * hard + 0.1 / 3 * smooth
end

# The rules on a single weight against PyTorch's formulas, with a rate that changes.
function by_formula(optimizer, gradients, etas; decay = 0.1)
    p, m, v = 1.0, 0.0, 0.0
    for (t, (g, eta)) in enumerate(zip(gradients, etas))
        optimizer == "adamw" ? (p -= eta * decay * p) : (g += decay * p)
        if optimizer == "sgd"
            m = 0.9m + g
            p -= eta * m
        else
            m, v = 0.9m + 0.1g, 0.999v + 0.001g^2
            p -= eta * (m / (1 - 0.9^t)) / (sqrt(v / (1 - 0.999^t)) + 1.0e-8)
        end
    end
    return p
end

@testset "$optimizer" for optimizer in ("adamw", "adam", "sgd")
    gradients, etas = [0.5, -0.2, 0.3, 0.9], [0.1, 0.05, 0.2, 0.01]
    rule = Optimisers.setup(
        PyFluxTransfer.optimizer_rule(Update(; optimizer, weight_decay = 0.1)),
        Float32[1],
    )
    p = Float32[1]
    for (g, eta) in zip(gradients, etas)
        Optimisers.adjust!(rule, eta)
        rule, p = Optimisers.update!(rule, p, Float32[g])
    end
    @test p[1] ≈ by_formula(optimizer, gradients, etas) rtol = 1.0e-5
end

@testset "only the tail changes" begin
    net = tiny_network()
    cut_at!(net, 2)
    before = state(net)
    features = embed(net, x)
    losses = [step!(net, features, y, rates(0.05)) for _ in 1:5]
    after = state(net)
    @test losses[end] < losses[1]
    @test all(before[name] == after[name] for name in keys(before) if startswith(name, "a."))
    @test all(before[name] != after[name] for name in keys(before) if !startswith(name, "a."))
    @test net.steps == 5
end

@testset "the gradient is that of the loss" begin
    net = tiny_network(; dropout = 0.0)
    prepare!(net, Update(; optimizer = "sgd", momentum = 0.0, weight_decay = 0.0, freeze_bn = true))
    loss() = cross_entropy(PyFluxTransfer.apply(net, x, 0, 8), targets(y, 3, 0.0, nothing)...)
    weight = net.chain[8].weight
    old, eps = weight[2, 3], 1.0f-2
    weight[2, 3] = old + eps
    high = loss()
    weight[2, 3] = old - eps
    low = loss()
    weight[2, 3] = old
    step!(net, x, y, rates(1.0))
    @test old - weight[2, 3] ≈ (high - low) / 2eps rtol = 1.0e-2
end

@testset "BatchNorm is frozen on request" begin
    for freeze_bn in (true, false)
        net = tiny_network()
        prepare!(net, Update(; freeze_bn))
        before = state(net)["a.1.running_mean"]
        step!(net, x, y, rates(0.01))
        @test (state(net)["a.1.running_mean"] == before) == freeze_bn
    end
end

@testset "a stage's rate is its own" begin
    net = tiny_network()
    before = state(net)
    step!(net, x, y, Dict("stem" => 0.0, "body" => 0.0, "head" => 0.1))
    after = state(net)
    changed = [name for name in keys(before) if before[name] != after[name]]
    @test all(startswith(name, "fc") || occursin("running", name) for name in changed)
end

@testset "a loss that is no number changes no parameter" begin
    net = tiny_network()
    before = state(net)["fc.3.weight"]
    bad = copy(x)
    bad[1] = NaN32
    @test isnan(step!(net, bad, y, rates(0.1)))
    @test state(net)["fc.3.weight"] == before && net.steps == 0
end

@testset "numbers without a finite variance change nothing" begin
    net = tiny_network()
    before = state(net)
    @test isnan(step!(net, x .* 1.0f25, y, rates(0.1)))
    @test state(net) == before && net.steps == 0
    bad = copy(x)
    bad[1] = NaN32
    step!(net, bad, y, rates(0.1))
    @test state(net) == before
end

@testset "threads of the matrix product are as before" begin
    usual = PyFluxTransfer.BLAS.get_num_threads()
    PyFluxTransfer.BLAS.set_num_threads(2)
    net = tiny_network()
    step!(net, x, y, rates(0.1))
    @test PyFluxTransfer.BLAS.get_num_threads() == 2
    @test_throws DimensionMismatch step!(net, x, y[1:3], rates(0.1))
    @test PyFluxTransfer.BLAS.get_num_threads() == 2
    # They are one while Julia's threads compute, also for a second user in between.
    inside = PyFluxTransfer.with_blas_threads(1) do
        PyFluxTransfer.with_blas_threads(() -> PyFluxTransfer.BLAS.get_num_threads(), 2)
    end
    @test inside == 1
    @test PyFluxTransfer.BLAS.get_num_threads() == 2
    PyFluxTransfer.BLAS.set_num_threads(usual)
end

@testset "a rate of $rate is refused" for rate in (NaN, Inf, -0.1)
    net = tiny_network()
    before = state(net)
    @test_throws ArgumentError step!(net, x, y, rates(rate))
    @test_throws ArgumentError step!(net, x, y, Dict("stem" => 0.1))
    @test state(net) == before
end

@testset "a resumed run equals an unbroken one: $optimizer" for optimizer in (
        "adamw",
        "adam",
        "sgd",
    )
    update = Update(; optimizer, weight_decay = 0.01, seed = 7)
    run!(net, count) = [step!(net, x, y, rates(0.02)) for _ in 1:count]
    whole = tiny_network()
    prepare!(whole, update)
    losses = run!(whole, 6)
    part = tiny_network()
    prepare!(part, update)
    run!(part, 3)
    rest = tiny_network()
    load!(rest, state(part))
    prepare!(rest, update)
    kept = Dict(name => PyFluxTransfer.outside(m) for (name, m) in memory(part))
    load_memory!(rest, 3, kept)
    @test run!(rest, 3) == losses[4:6]
    @test state(rest) == state(whole)
    @test_throws ArgumentError load_memory!(rest, 3, Dict{String, Any}())
end

@testset "masks follow from seed and step" begin
    @test PyFluxTransfer.mix(1, 2, 3) == PyFluxTransfer.mix(1, 2, 3)
    @test length(Set(PyFluxTransfer.mix(s, t, i) for s in 0:9, t in 0:9, i in 1:3)) == 300
    @test PyFluxTransfer.mix(-1, 0, 1) >= 0
end

@testset "one value a channel" begin
    net = tiny_network()
    one = zeros(Float32, 2, 2, 3, 1)
    @test_throws DomainError step!(net, one, [1], rates(0.1))
    cut_at!(net, 2)
    one = zeros(Float32, 1, 1, 8, 1)
    @test_throws DomainError step!(net, one, [1], rates(0.1))
    prepare!(net, Update(; freeze_bn = true))
    @test isfinite(step!(net, one, [1], rates(0.1)))
    prepare!(net, Update())
    @test isfinite(step!(net, zeros(Float32, 1, 2, 8, 1), [1], rates(0.1)))
end
