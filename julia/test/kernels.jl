using PyFluxTransfer:
    Convolve,
    Depthwise,
    Maximum,
    Workspace,
    bring_forward!,
    load_images!,
    run!,
    store_images!

# A workspace with these images in slot 1, and what a slot holds as images.
function workspace(x)
    ws = Workspace()
    load_images!(ws, x, axes(x, 4))
    return ws
end

function content(ws, slot)
    bring_forward!(ws, slot)
    images = zeros(Float32, ws.sizes[1]..., ws.count)
    store_images!(images, ws, 1:(ws.count))
    bring_forward!(ws, slot)
    return images
end

function convolve(
    conv;
    padding = 0,
    same = false,
    from = 1,
    to = 2,
    add = false,
    activation = identity,
)
    weight, bias = PyFluxTransfer.fold(conv)
    return Convolve(
        weight,
        bias,
        size(conv.weight, 1),
        conv.stride[1],
        same,
        padding,
        conv.groups,
        activation,
        from,
        to,
        1:length(bias),
        length(bias),
        add,
    )
end

x = randn(MersenneTwister(1), Float32, 13, 10, 4, 3)
cases = (
    (3, 1, 1, 1),
    (3, 2, 1, 1),
    (7, 2, 3, 1),
    (1, 2, 0, 1),
    (1, 1, 0, 1),
    (3, 1, 0, 2),
    (5, 1, 4, 4),
)

@testset "convolution $kernel/$stride pad $padding groups $groups" for (
        kernel,
        stride,
        padding,
        groups,
    ) in cases
    conv = Conv((kernel, kernel), 4 => 8; stride, pad = padding, groups)
    conv.bias .= randn(Float32, 8)
    ws = workspace(x)
    run!(convolve(conv; padding, activation = relu), ws)
    @test content(ws, 2) ≈ relu.(conv(x)) rtol = 1.0e-5
end

@testset "many blocks, a shortcut, and a product without im2col" begin
    large = randn(MersenneTwister(3), Float32, 65, 61, 3, 2)
    first_, second = Conv((3, 3), 3 => 300; pad = 1), Conv((1, 1), 300 => 300)
    ws = workspace(large)
    run!(convolve(first_; padding = 1), ws)
    run!(convolve(second; from = 2, to = 3), ws)
    run!(convolve(second; from = 3, to = 2, add = true, activation = relu), ws)
    a = first_(large)
    @test content(ws, 2) ≈ relu.(second(second(a)) .+ a) rtol = 1.0e-4
end

@testset "TensorFlow's padding" begin
    conv = Conv((3, 3), 4 => 8; stride = 2)
    ws = workspace(x)
    run!(convolve(conv; same = true), ws)
    @test content(ws, 2) ≈ conv(PyFluxTransfer.PadSame(3, 2)(x)) rtol = 1.0e-5
end

@testset "depthwise, stride $stride" for stride in (1, 2)
    conv = Conv((3, 3), 4 => 4; stride, pad = 1, groups = 4)
    weight, bias = PyFluxTransfer.fold(conv)
    ws = workspace(x)
    run!(Depthwise(reshape(weight, 3, 3, :), bias .+ 1, 3, stride, false, 1, relu6, 1, 2), ws)
    @test content(ws, 2) ≈ relu6.(conv(x) .+ 1) rtol = 1.0e-5
end

@testset "max pooling" begin
    ws = workspace(x)
    run!(Maximum(3, 2, 1, false, 1, 2), ws)
    @test content(ws, 2) == MaxPool((3, 3); stride = 2, pad = 1)(x)
    run!(Maximum(3, 2, 0, true, 1, 2), ws)
    @test content(ws, 2) == PyFluxTransfer.CeilMaxPool(3, 2)(x)
end

@testset "images in and out" begin
    ws = Workspace()
    load_images!(ws, x, 2:3)
    y = zero(x)
    store_images!(y, ws, 2:3)
    @test y[:, :, :, 2:3] == x[:, :, :, 2:3] && all(iszero, y[:, :, :, 1])
end
