using PyFluxTransfer: Room, forward, give_all_back!, planes

rng = MersenneTwister(3)

# The arrays of a gradient, wherever they lie. Of a norm's running statistics there is none.
trained(x) = []
trained(x::AbstractArray{<:Number}) = [x]
trained(x::Base.RefValue) = trained(x[])
trained(x::Union{Tuple, Vector{Any}}) = reduce(vcat, map(trained, x); init = [])
trained(x::NamedTuple) = haskey(x, :μ) ? trained((x.β, x.γ)) : trained(Tuple(x))

near(a, b; rtol = 1.0f-4) = size(a) == size(b) &&
    maximum(abs, a .- b) <= rtol * maximum(abs, b) + 1.0f-6

"Output, gradients and running statistics are those of the plain Flux layer with Zygote."
function as_flux(layer, x; room = Room())
    plain = deepcopy(layer)
    wanted, back = Flux.pullback((layer, x) -> layer(x), plain, x)
    dy = randn(rng, Float32, size(wanted))
    mirror, dx = back(dy)
    GC.@preserve room begin
        y, ours = forward(room, layer, planes(room, x))
        given = planes(room, dy)
        change, gradients = ours(given, true)
        @test near(PyFluxTransfer.images(y), wanted)
        @test near(PyFluxTransfer.images(change), dx)
        pairs = zip(trained(gradients), trained(mirror))
        @test all(near(a, b) for (a, b) in pairs)
        @test length(trained(gradients)) == length(trained(mirror))
        @test PyFluxTransfer.images(given) == dy # left as it was
        give_all_back!(room)
    end
    for (a, b) in zip(Flux.modules(layer), Flux.modules(plain))
        a isa BatchNorm && @test near(a.μ, b.μ) && near(a.σ², b.σ²)
    end
    return nothing
end

x = randn(rng, Float32, 13, 10, 8, 5)

function norm(activation; frozen = false)
    layer = BatchNorm(8, activation)
    for field in (layer.γ, layer.β, layer.μ)
        field .+= randn(rng, Float32, 8)
    end
    return frozen ? Flux.testmode!(layer) : layer
end

LAYERS = (
    "3×3" => Conv((3, 3), 8 => 6, relu; pad = 1),
    "3×3, stride 2" => Conv((3, 3), 8 => 6; pad = 1, stride = 2, bias = false),
    "1×1" => Conv((1, 1), 8 => 16, swish),
    "1×1, stride 2" => Conv((1, 1), 8 => 16; stride = 2),
    "7×5, stride 2" => Conv((7, 5), 8 => 4; pad = (3, 2), stride = 2),
    "uneven padding, dilation" => Conv((3, 3), 8 => 4; pad = (0, 1, 1, 2), dilation = 2),
    "four groups" => Conv((3, 3), 8 => 16; groups = 4, pad = 1),
    "1×1, four groups" => Conv((1, 1), 8 => 16; groups = 4),
    "depthwise" => Conv((3, 3), 8 => 8, relu6; groups = 8, pad = 1),
    "depthwise, stride 2" => Conv((5, 5), 8 => 8; groups = 8, pad = 2, stride = 2),
    "depthwise, 4×2, stride 3" => Conv((4, 2), 8 => 8; groups = 8, pad = (0, 1, 2, 0), stride = 3),
    "depthwise, dilation" => Conv((3, 3), 8 => 8; groups = 8, pad = 2, dilation = 2),
    (
        "norm, $f" => norm(f)
        for f in (identity, relu, relu6, swish, hardswish, PyFluxTransfer.gelu)
    )...,
    "norm, frozen" => norm(relu; frozen = true),
    "norm, then relu" => Chain(norm(identity), relu),
    ("$f" => Chain(f) for f in (sigmoid, hardsigmoid))...,
    "windows" => PyFluxTransfer.WindowMax(3, 2, 1),
    "windows that hang over" => PyFluxTransfer.CeilMaxPool(3, 2),
    "mean" => PyFluxTransfer.AdaptiveMean(1),
    "nine means" => PyFluxTransfer.AdaptiveMean(3),
    "TensorFlow's padding" => PyFluxTransfer.PadSame(3, 2),
    "vectors" => Chain(Flux.flatten, Dense(1040 => 4, tanh), Dense(4 => 3)),
    "residual" => SkipConnection(Chain(Conv((1, 1), 8 => 8, relu)), +),
    "sum, then gelu" => Parallel(PyFluxTransfer.plus, norm(identity), identity),
    "sum of equals" => Parallel(PyFluxTransfer.plus, identity, identity),
    "beside each other" => Parallel(PyFluxTransfer.beside, identity, Conv((1, 1), 8 => 3)),
    "gate" => Parallel(
        PyFluxTransfer.times,
        identity,
        Chain(PyFluxTransfer.AdaptiveMean(1), Conv((1, 1), 8 => 8, sigmoid)),
    ),
    "Metalhead's block" => Chain(Conv((1, 1), 8 => 64), Metalhead.ResNet(18).layers[1][2][1]),
    "a layer of Flux alone" => Chain(MeanPool((2, 2)), Conv((3, 3), 8 => 2)),
    "an own function" => Chain(
        x -> 2 .* x,
        norm(relu),
        Parallel((a, b) -> a .- b, identity, x -> abs.(x)),
    ),
)

@testset "$name" for (name, layer) in LAYERS
    as_flux(layer, x)
end

@testset "few rows and many channels" begin
    small = randn(rng, Float32, 2, 2, 70, 1)
    as_flux(Conv((3, 3), 70 => 90; pad = 1), small)
    as_flux(Conv((1, 1), 70 => 90), small)
end

@testset "many rows: several blocks for each thread" begin
    large = randn(rng, Float32, 61, 57, 20, 4)
    as_flux(Conv((3, 3), 20 => 24; pad = 1), large)
    as_flux(Conv((1, 1), 20 => 24), large)
    as_flux(Conv((3, 3), 20 => 20; pad = 1, groups = 20), large)
end

@testset "buffers are used again" begin
    room = Room()
    layer = Chain(Conv((3, 3), 8 => 8; pad = 1, bias = false), BatchNorm(8, relu))
    as_flux(layer, x; room)
    held = sum(length, room.free)
    as_flux(layer, x; room)
    as_flux(layer, x[:, :, :, 1:4]; room)
    @test sum(length, room.free) == held
    @test isempty(room.taken)
end

@testset "a gradient that nobody wants" begin
    room = Room()
    GC.@preserve room for layer in (
            Conv((3, 3), 8 => 6),
            norm(relu),
            PyFluxTransfer.WindowMax(2, 2, 0),
        )
        y, back = forward(room, layer, planes(room, x))
        @test first(back(y, false)) === nothing
    end
end
