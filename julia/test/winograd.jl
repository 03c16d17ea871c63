using PyFluxTransfer: Winograd, Workspace, fold, load_images!, run!, store_images!, winograd_weight

@testset "$w × $h, $inner → $outer, $count images" for (w, h, inner, outer, count) in (
        (8, 6, 16, 20, 3),
        (7, 7, 17, 16, 2),
        (5, 1, 16, 16, 1),
        (60, 61, 32, 16, 4),
    )
    conv = Conv((3, 3), inner => outer; pad = 1)
    conv.bias .= randn(Float32, outer)
    weight, bias = fold(conv)
    x = randn(Float32, w, h, inner, count)
    ws = Workspace()
    load_images!(ws, x, 1:count)
    run!(Winograd(winograd_weight(weight), bias, relu, 1, 2, 1:outer, outer, false), ws)
    first_ = copy(ws.slots[2])
    # Onto a shortcut, in some of the columns of a wider matrix.
    ws.slots[3] = ones(Float32, w * h * count * (outer + 2))
    wide = Winograd(winograd_weight(weight), bias, identity, 1, 3, 3:(outer + 2), outer + 2, true)
    run!(wide, ws)
    sum = ws.slots[3][(2 * w * h * count + 1):end]
    @test all(isone, ws.slots[3][1:(2 * w * h * count)])
    @test relu.(sum .- 1) ≈ first_[1:length(sum)] rtol = 1.0e-4
    PyFluxTransfer.bring_forward!(ws, 2)
    y = zeros(Float32, w, h, outer, count)
    store_images!(y, ws, 1:count)
    @test y ≈ relu.(conv(x)) rtol = 1.0e-5
end
