using PyFluxTransfer: Affine, Convolve, Place, Winograd, rewrite

@testset "$name is what its layers compute" for name in keys(TREES)
    net = tree_network(name)
    unit, layer = net.units[1], Flux.testmode!(net.chain[1])
    @test rewrite(unit, layer) !== nothing
    x = tree_input(name)
    kept = copy(x)
    plain = layer(x)
    @test logits(net, x) ≈ plain rtol = 1.0e-4
    @test x == kept
    @test logits(net, x) == logits(net, x)
    # More images than pass at once, which begin at another place in the buffers.
    many = logits(net, repeat(x; inner = (ntuple(_ -> 1, ndims(x) - 1)..., 4)))
    @test selectdim(many, ndims(many), 1:4:12) ≈ plain rtol = 1.0e-4
    other = logits(net, selectdim(x, ndims(x), 2:2))
    @test other ≈ selectdim(plain, ndims(plain), 2:2) rtol = 1.0e-4
end

@testset "what follows is done by the product" begin
    kinds(name) = [
        typeof(op).name.wrapper
        for op in rewrite(tree_unit(name), tree_network(name).chain[1]).operations
    ]
    @test count(==(Affine), kinds("inverted")) == 0
    @test last(kinds("inverted")) === Convolve
    # New channels lie behind the old ones: nothing is copied.
    @test !(Place in kinds("dense"))
    @test count(kind -> kind in (Convolve, Winograd), kinds("next")) == 2
end

@testset "an operation that is not known falls back to the layer" begin
    body = PyFluxTransfer.Node(:chain, Dict(), nothing, [act("relu"), node(:flat)])
    settings = options(; :in => 8, :out => 8 * 20 * 16, axes = 4, ends = 2)
    unit = Unit("flat", :block, "head", settings, [], body)
    net = Network(Plan("", [], Dict{Symbol, Any}(), [unit]))
    @test rewrite(unit, net.chain[1]) === nothing
    x = images_of(8, 2)
    @test logits(net, x) == reshape(relu.(x), :, 2)
end

@testset "$name" for name in ("mobilenet_v3_small", "dinov2_vits14", "densenet121")
    net = Network(read_plan(name))
    load!(net, random_state(net))
    x = images(2; width = 70, height = 84)
    blocks = findall(unit -> unit.body !== nothing, net.units)
    @test all(i -> rewrite(net.units[i], net.chain[i]) !== nothing, blocks)
    plain = Flux.testmode!(net.chain)(x)
    @test logits(net, x) ≈ plain rtol = 1.0e-3
end
