using PyFluxTransfer: argument, build, chain_of, fits, leaves, pieces, take_unit!, take_weights!

@testset "leaves" begin
    conv, norm, dense = Conv((3, 3), 2 => 2), BatchNorm(2), Dense(2 => 2)
    @test first.(leaves(Chain(conv, relu, Chain(norm)))) == [conv, norm]
    # The shortcut comes last, whichever place the Parallel gives it.
    @test first.(leaves(Parallel(+, dense, Chain(conv, norm)))) == [conv, norm, dense]
    @test first.(leaves(SkipConnection(Chain(conv, norm), +))) == [conv, norm]
    mirror = (layers = ((weight = 1,), nothing),)
    @test last.(leaves(Chain(conv, norm), mirror)) == [(weight = 1,), nothing]
    @test isempty(leaves(relu))
    @test pieces(Chain(Chain(conv, MaxPool((2, 2))), norm)) == [conv, norm]
end

@testset "fits" begin
    leaf = Conv((3, 5), 4 => 6; groups = 2, bias = false)
    @test PyFluxTransfer.shape(leaf) == [6, 2, 5, 3]
    @test fits(leaf, Layer("x", :conv, [6, 2, 5, 3], false))
    @test !fits(leaf, Layer("x", :conv, [6, 2, 5, 3], true))
    @test !fits(leaf, Layer("x", :conv, [6, 4, 5, 3], false))
    @test !fits(Dense(2 => 3), Layer("x", :conv, [3, 2], true))
    @test fits(BatchNorm(3), Layer("x", :norm, [3], true))
end

@testset "units are taken in order" begin
    conv, norm, dense = Conv((3, 3), 3 => 8; bias = false), BatchNorm(8), Dense(2 => 2)
    queue = Any[conv, norm, dense]
    unit = conv_unit("a", "s", 3, 8, 3)
    layer = take_unit!(queue, unit)
    @test layer[1] === conv && layer[2] === norm && queue == [dense]
    @test take_unit!(queue, unit) === nothing && queue == [dense]
    @test take_unit!(Any[], unit) === nothing
end

@testset "$name is Metalhead's" for (name, own) in (
        ("resnet18", 0),
        ("squeezenet1_1", 0),
        ("mobilenet_v2", 0),
    )
    plan = read_plan(name)
    chain = build(plan)
    @test length(chain) == length(plan.units)
    @test all(fits(layer, unit) for (layer, unit) in zip(chain.layers, plan.units))
    @test size(chain(zeros(Float32, 64, 64, 3, 2))) == (1000, 2)
    # Nothing was made but what has no parameters.
    queue = pieces(PyFluxTransfer.metalhead(plan).layers)
    @test count(!isempty, [unit.layers for unit in plan.units]) ==
        count(unit -> !isempty(unit.layers) && take_unit!(queue, unit) !== nothing, plan.units)
    @test length(queue) == own
end

@testset "what Metalhead has not" begin
    chain = build(read_plan("efficientnet_lite0"))
    @test size(chain(zeros(Float32, 33, 32, 3, 2))) == (1000, 2)
    # A convolution with bias and BatchNorm replaces Metalhead's, which has no bias.
    unit = conv_unit("a", "block1", 3, 8, 3; bias = true)
    queue = Any[Conv((3, 3), 3 => 8; bias = false), BatchNorm(8), Dense(2 => 2)]
    @test PyFluxTransfer.layer_for!(queue, unit, true)[1].bias isa Vector
    @test length(queue) == 1
    # Anything else that does not fit outside the head is an error.
    other = conv_unit("a", "block1", 3, 9, 3)
    @test_throws DimensionMismatch PyFluxTransfer.layer_for!(queue, other, true)
    @test PyFluxTransfer.layer_for!(queue, dense_unit("fc", 2, 7), true) isa Dense
    wrong = Unit(
        "d",
        :dense,
        "head",
        options(; :in => 2, :out => 3, :activation => "none"),
        [dense_leaf("d", 2, 4)],
    )
    @test_throws DimensionMismatch build(Plan("", [], Dict{Symbol, Any}(), [wrong]))
end

@testset "ViT's weights without its layers" begin
    plan = vit_plan(192, 12, 3, 32, 2)
    model = Metalhead.ViT(:tiny; imsize = (64, 64), patch_size = (32, 32))
    foreach(x -> x .+= 0.05f0 .* randn(Float32, size(x)), Flux.trainables(model.layers))
    chain = take_weights!(chain_of(plan, nothing), model)
    x = randn(Float32, 64, 64, 3, 2)
    theirs = Flux.testmode!(model)(x)
    # Metalhead's gelu is an approximation; an array in another's place would tell more.
    @test maximum(abs, chain(x) .- theirs) < 0.02 * maximum(abs, theirs)
    @test_throws DimensionMismatch take_weights!(
        chain_of(vit_plan(192, 11, 3, 32, 2), nothing),
        model,
    )
    @test argument("base") === :base && argument([16, 16]) === (16, 16) && argument(50) === 50
end

@testset "branches side by side keep their order" begin
    long, short = Chain(Conv((1, 1), 2 => 3), Conv((1, 1), 3 => 4)), Conv((1, 1), 2 => 5)
    @test first.(leaves(Parallel(Metalhead.cat_channels, short, long))) == [short, long...]
    @test first.(leaves(Parallel(PyFluxTransfer.beside, short, long))) == [short, long...]
end
