# A Julia session without Python: open, train as Flux does, save, open again, classify.

"Photos of two kinds that a network can tell: bright above, or below."
function photo(kind, seed)
    rng = MersenneTwister(seed)
    image = rand(rng, 0x00:0x60, 20, 24, 3)
    image[kind == 1 ? (1:10) : (11:20), :, :] .+= 0x90
    return image
end

model = PyFluxTransfer.open(tiny_bundle(; header = tiny_header(; temperature = 1)))
kinds = repeat(1:2, 8)
photos = photo.(kinds, 1:16)
x = stack(preprocess(model.preprocessing, image) for image in photos)
y = Flux.onehotbatch(model.classes[kinds], model.classes)
cost(chain, x, y) = Flux.logitcrossentropy(chain(x), y)
before = Flux.testmode!(deepcopy(model.net.chain))
start = cost(before, x, y)

@testset "Flux.train! on the chain" begin
    optimizer = Flux.setup(Adam(0.02), model.net.chain)
    Flux.freeze!(optimizer.layers[1]) # the stem stays
    stem = copy(model.net.chain[1][1].weight)
    for _ in 1:20
        Flux.train!(cost, model.net.chain, [(x, y)], optimizer)
    end
    @test model.net.chain[1][1].weight == stem
    @test cost(Flux.testmode!(deepcopy(model.net.chain)), x, y) < 0.85 * start
end

@testset "saved, opened, classified" begin
    path = joinpath(mktempdir(), "mine.safetensors")
    PyFluxTransfer.save(path, model)
    again = PyFluxTransfer.open(path)
    @test state(again.net) == state(model.net)
    for image in photos[1:3]
        @test classify(again, image) == classify(model, image)
    end
    @test probabilities(again, x) ≈ softmax(Flux.testmode!(model.net.chain)(x)) rtol = 1.0e-3
    @test !any(name -> occursin("Python", name), string.(nameof.(values(Base.loaded_modules))))
end

@testset "withgradient and Optimisers.update!" begin
    head = model.net.chain[end]
    optimizer = Flux.setup(Descent(0.1), model.net.chain)
    was = copy(head.weight)
    _, grads = Flux.withgradient(chain -> cost(chain, x, y), model.net.chain)
    Flux.update!(optimizer, model.net.chain, grads[1])
    @test head.weight != was && state(model.net)["fc.3.weight"] == permutedims(head.weight)
end
