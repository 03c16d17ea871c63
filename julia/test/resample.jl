using PyFluxTransfer: resample

image = [UInt8((7x + 13y + 101c + x * y % 17 * 5) % 256) for y in 0:63, x in 0:47, c in 0:2]

@testset "$name" for name in ("bilinear", "bicubic")
    whole = (0.0, 0.0, 48.0, 64.0)
    @test resample(image, 48, 64, whole, name) == image
    @test size(resample(image, 20, 9, whole, name)) == (9, 20, 3)
    # Constant levels stay what they are, whatever the scale: the weights sum to one.
    for levels in (0x00, 0x7f, 0xff), side in (1, 7, 64, 200)
        flat = fill(levels, 31, 17, 3)
        @test all(==(levels), resample(flat, side, side, (0.3, 1.7, 15.2, 30.9), name))
    end
    # A box of whole pixels upscaled by 1 is the box.
    @test resample(image, 10, 5, (3, 2, 13, 7), name) == image[3:7, 4:13, :]
    # Turning the image turns the result, up to rounding and clipping between the two passes.
    turned = permutedims(image, (2, 1, 3))
    one = resample(image, 20, 9, whole, name)
    other = permutedims(resample(turned, 9, 20, (0.0, 0.0, 64.0, 48.0), name), (2, 1, 3))
    @test maximum(abs.(Int.(one) .- Int.(other))) <= 4
end

# Beyond its ends a bicubic edge overshoots, and is clipped.
edge = repeat(reshape([0x00, 0x00, 0xff, 0xff], 1, 4, 1), 1, 1, 3)
@test extrema(resample(edge, 40, 1, (0, 0, 4, 1), "bicubic")) == (0x00, 0xff)
@test issorted(resample(edge, 40, 1, (0, 0, 4, 1), "bilinear")[1, :, 1])
