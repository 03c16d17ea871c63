# Networks of layers that no plan describes.
using PyFluxTransfer: called, parsed_call, parts

"A trunk of all sorts of layers, a Dropout inside a block, and a head; the weights differ from call to call."
function own_parts(; dropped = 0.5)
    block = SkipConnection(
        Chain(Conv((3, 3), 8 => 8; pad = 1), GroupNorm(8, 2, relu), Dropout(dropped)),
        +,
    )
    trunk = Chain(
        Chain(Conv((3, 3), 3 => 8; stride = 2), BatchNorm(8, relu)),
        Chain(block, Parallel(vcat, identity, identity)),
        Flux.MeanPool((2, 2)),
    )
    return trunk,
        Chain(GlobalMeanPool(), Flux.flatten, Dense(8 => 5, tanh), Flux.LayerNorm(5), Dense(5 => 3))
end

own_network(; name = "Mine.small", options...) = Network(
    own_parts(; options...)...;
    name,
    side = 16,
)
x, y = images(), [1, 3, 2, 1]
stages_of(net) = Dict(unit.stage => 0.01 for unit in net.units)

@testset "units and tensors" begin
    net = own_network()
    plain = Chain(own_parts()...)
    @test [unit.name for unit in net.units][1:4] ==
        ["trunk.1.1", "trunk.1.2", "trunk.2.1", "trunk.2.2"]
    @test unique(unit.stage for unit in net.units) == ["stage1", "stage2", "stage3", "head"]
    @test sum(length, Flux.trainables(net.chain)) == sum(length, Flux.trainables(plain))
    held = state(net)
    trained = filter(name -> !occursin(".running_", name), keys(held))
    @test sum(length(held[name]) for name in trained) == sum(length, Flux.trainables(plain))
    @test haskey(held, "trunk.1.2.running_var") && haskey(held, "trunk.2.1.1.weight")
    other = own_network()
    @test other.chain(x) != net.chain(x)
    load!(other, held)
    @test other.chain(x) == net.chain(x)
    @test_throws ArgumentError load!(other, Dict{String, Any}())
end

@testset "cut at every unit it computes the same" begin
    net = own_network()
    for cut in 0:(length(net.units) - 1)
        cut_at!(net, cut)
        @test logits(net, embed(net, x)) ≈ net.chain(x) rtol = 1.0e-4
    end
    @test Inference(net)(x) ≈ net.chain(x) rtol = 1.0e-4
    @test_throws DimensionMismatch logits(net, zeros(Float32, 2, 2))
    @test_throws ArgumentError embed(net, zeros(Float64, 16, 16, 3, 1))
end

@testset "a step trains the tail alone" begin
    net = own_network(; dropped = 0.0)
    cut_at!(net, 2)
    before = state(net)
    features = embed(net, x)
    losses = [step!(net, features, y, stages_of(net)) for _ in 1:8]
    after = state(net)
    @test losses[end] < losses[1]
    @test all((before[name] == after[name]) == startswith(name, "trunk.1") for name in keys(before))
    prepare!(net, Update(; freeze_bn = true))
    cut_at!(net, 0)
    prepare!(net, Update(; freeze_bn = true))
    step!(net, x, y, stages_of(net))
    @test state(net)["trunk.1.2.running_mean"] == after["trunk.1.2.running_mean"]
end

@testset "a resumed run drops the same units inside blocks" begin
    whole = own_network()
    start = state(whole)
    update = Update(; seed = 7)
    prepare!(whole, update)
    losses = [step!(whole, x, y, stages_of(whole)) for _ in 1:4]
    part = load!(own_network(), start)
    prepare!(part, update)
    @test [step!(part, x, y, stages_of(part)) for _ in 1:2] == losses[1:2]
    rest = load!(own_network(), state(part))
    prepare!(rest, update)
    kept = Dict(name => PyFluxTransfer.outside(m) for (name, m) in PyFluxTransfer.memory(part))
    PyFluxTransfer.load_memory!(rest, 2, kept)
    rand(100) # of the task's generator: nothing may hang on it
    @test [step!(rest, x, y, stages_of(rest)) for _ in 1:2] == losses[3:4]
    without = load!(own_network(; dropped = 0.0), start)
    prepare!(without, update)
    @test step!(without, x, y, stages_of(without)) != losses[1]
end

@testset "saved with its name, opened where the constructor is given" begin
    net = own_network()
    model = Classifier(
        net,
        ["ants", "bees", "été"];
        preprocessing = Preprocessing(; resize = 18, crop = 16),
    )
    path = joinpath(mktempdir(), "own.safetensors")
    PyFluxTransfer.save(path, model)
    again = PyFluxTransfer.open(path; own = own_parts)
    @test again.architecture == "julia:Mine.small"
    @test again.classes == model.classes && again.preprocessing == model.preprocessing
    @test logits(again.net, embed(again.net, x)) == logits(net, embed(net, x))
    told = refusal(() -> PyFluxTransfer.open(path))
    @test occursin("Mine", told) && occursin("own = ", told)
    other() = (own_parts()[1], Chain(GlobalMeanPool(), Flux.flatten, Dense(8 => 3)))
    @test occursin("head", refusal(() -> PyFluxTransfer.open(path; own = other)))
    twice = PyFluxTransfer.save(path, again)
    @test state(PyFluxTransfer.open(twice; own = own_parts).net) == state(net)
    @test_throws ArgumentError Classifier(own_network(; name = ""), ["a", "b", "c"])
    @test_throws ArgumentError Classifier(net, ["a", "b"])
end

@testset "a call is read, not run" begin
    @test parsed_call("A.b") == (:A, :b, Any[], Dict{Symbol, Any}())
    @test parsed_call("A.b(1, -2.5, \"c\", (3, 4), :d; e = true, f = [1])") ==
        (:A, :b, Any[1, -2.5, "c", (3, 4), :d], Dict{Symbol, Any}(:e => true, :f => [1]))
    for bad in (
            "b",
            "A.b(c)",
            "A.b(run(`ls`))",
            "A.b(1; c)",
            "A.B.c(1)",
            "1",
            "A.b(",
            "A.b(x -> x)",
            "f()",
            "",
        )
        @test_throws ArgumentError parsed_call(bad)
    end
    for bad in (
            "Base.rm(\"a\")",
            "Metalhead.backbone(1)",
            "Metalhead.eval(1)",
            "Metalhead.nothing_such(1)",
        )
        @test_throws ArgumentError called(bad)
    end
end

@testset "a module that the environment allows" begin
    folder = mktempdir()
    write(
        joinpath(folder, "PftOwnNets.jl"),
        """
        module PftOwnNets
        using Flux
        export small
        struct Twice{A}
            factor::A
        end
        Flux.@layer Twice
        (layer::Twice)(x) = layer.factor .* x
        small(width = 4) = Chain(
            Chain(Conv((3, 3), 3 => width, relu), Twice(fill(2.0f0, 1, 1, width))),
            Chain(GlobalMeanPool(), Flux.flatten, Dense(width => 2)),
        )
        hidden() = small()
        end
        """,
    )
    pushfirst!(LOAD_PATH, folder)
    withenv("PYFLUX_JULIA_MODULES" => nothing) do
        @test_throws ArgumentError called("PftOwnNets.small")
    end
    withenv("PYFLUX_JULIA_MODULES" => "Other, PftOwnNets") do
        number = PyFluxTransfer.create_own("PftOwnNets.small(6)", 16)
        plan = PyFluxTransfer.own_plan(number)
        @test occursin("trunk.1.2.factor", plan)
        again = PyFluxTransfer.NETWORKS[PyFluxTransfer.create(plan, "cpu")]
        first_one = PyFluxTransfer.NETWORKS[number]
        load!(again, state(first_one))
        @test Base.invokelatest(again.chain, x) == Base.invokelatest(first_one.chain, x)
        @test_throws ArgumentError called("PftOwnNets.hidden")
        @test_throws ArgumentError called("Other.small")
    end
    popfirst!(LOAD_PATH)
end

@testset "what cannot be a network is refused" begin
    dense = Dense(ones(Float32, 4, 4))
    pooled(layers...) = (
        Chain(Conv((3, 3), 3 => 4)),
        Chain(GlobalMeanPool(), Flux.flatten, layers...),
    )
    @test_throws ArgumentError Network(pooled(dense, Chain(dense, Dense(4 => 2)))...; side = 16)
    @test_throws ArgumentError Network(pooled(Flux.f64(Dense(4 => 2)))...; side = 16)
    @test_throws ArgumentError Network(Chain(Conv((3, 3), 3 => 4)), identity; side = 16)
    @test_throws ArgumentError Network(pooled(z -> (z, z))...; side = 16)
    @test_throws ArgumentError parts(Chain(Dense(1 => 1)))
    @test_throws ArgumentError parts(3)
end

@testset "a network of Metalhead's outside the catalog" begin
    number = PyFluxTransfer.create_own("Metalhead.SEResNet(18)", 64)
    net = PyFluxTransfer.NETWORKS[number]
    small = images(2; width = 64, height = 64)
    @test logits(net, embed(net, small)) ≈ net.chain(small) rtol = 1.0e-4
    again = PyFluxTransfer.NETWORKS[PyFluxTransfer.create(PyFluxTransfer.own_plan(number), "cpu")]
    load!(again, state(net))
    @test again.chain(small) == net.chain(small)
end

@testset "BatchNorm's momentum is that of the layer" begin
    layer = Layer("n", :norm, [4], true, ".", 0.01)
    made = PyFluxTransfer.assemble(chain(node(:norm; layer, eps = 1.0e-3)))
    @test made[1].momentum == 0.01f0
    row = Dict("name" => "n", "op" => "norm", "shape" => [4], "bias" => true)
    @test PyFluxTransfer.parse_layer(row).momentum == 0.1
    @test PyFluxTransfer.parse_layer(merge(row, Dict("momentum" => 0.01))).momentum == 0.01
end
