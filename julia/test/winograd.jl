using PyFluxTransfer:
    Convolve,
    Winograd,
    Workspace,
    bring_forward!,
    fold,
    load_images!,
    run!,
    store_images!

# Odd sizes, whole tiles, few tiles, many blocks of them.
@testset "$w × $h, $inner → $outer, $count images" for (w, h, inner, outer, count) in (
        (8, 6, 16, 20, 4),
        (7, 7, 17, 16, 5),
        (5, 1, 16, 16, 1),
        (60, 61, 32, 16, 4),
    )
    conv = Conv((3, 3), inner => outer; pad = 1)
    conv.bias .= randn(Float32, outer)
    weight, bias = fold(conv)
    x = randn(Float32, w, h, inner, count)
    ws = Workspace()
    load_images!(ws, x, 1:count)
    winograd(activation, to, columns, width, add) = Winograd(Convolve(
        weight,
        bias,
        3,
        1,
        false,
        1,
        1,
        activation,
        1,
        to,
        columns,
        width,
        add,
    ))
    run!(winograd(relu, 2, 1:outer, outer, false), ws)
    # Onto a shortcut, in some of the columns of a wider matrix.
    ws.slots[3] = ones(Float32, w * h * count * (outer + 2))
    run!(winograd(identity, 3, 3:(outer + 2), outer + 2, true), ws)
    bring_forward!(ws, 2)
    y = zeros(Float32, w, h, outer, count)
    store_images!(y, ws, 1:count)
    @test y ≈ relu.(conv(x)) rtol = 1.0e-5
    bring_forward!(ws, 3)
    y = zeros(Float32, w, h, outer + 2, count)
    store_images!(y, ws, 1:count)
    @test all(isone, y[:, :, 1:2, :])
    @test y[:, :, 3:end, :] ≈ conv(x) .+ 1 rtol = 1.0e-5
end

@testset "an image does not depend on its neighbours" begin
    conv = Conv((3, 3), 16 => 16; pad = 1)
    op = Winograd(Convolve(fold(conv)..., 3, 1, false, 1, 1, identity, 1, 2, 1:16, 16, false))
    x = randn(Float32, 14, 14, 16, 4)
    first_image(x) = begin
        ws = Workspace()
        load_images!(ws, x, 1:4)
        run!(op, ws)
        bring_forward!(ws, 2)
        y = zeros(Float32, 14, 14, 16, 4)
        store_images!(y, ws, 1:4)
        y[:, :, :, 1]
    end
    other = copy(x)
    other[:, :, :, 2:4] .= Inf32
    @test first_image(other) == first_image(x)
end
