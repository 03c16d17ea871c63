# The extension for ColorTypes; included by images.jl where that is there.
using ColorTypes
using ColorTypes.FixedPointNumbers: N0f8, N0f16

image = pattern(9, 7)
levels8(x) = reinterpret(N0f8, x)
colours = [RGB(levels8.(image[i, j, :])...) for i in axes(image, 1), j in axes(image, 2)]
white, below = (255, 255, 255), (10, 200, 30)

@test Base.get_extension(PyFluxTransfer, :PyFluxTransferColorTypesExt) !== nothing
@testset "every kind of colour: $(eltype(given))" for given in (
        colours,
        BGR.(colours),
        RGB{Float32}.(colours),
        RGB{N0f16}.(colours),
        RGBA.(colours),
        ARGB.(colours),
    )
    @test levels(given, white) == image
end
@test levels(RGB{Float64}[RGB(-1, 2, 0.5);;], white) == cat(0x00, 0xff, 0x80; dims = 3)
grey = [Gray(levels8(image[i, j, 1])) for i in axes(image, 1), j in axes(image, 2)]
@test levels(grey, white) == cat(image[:, :, 1], image[:, :, 1], image[:, :, 1]; dims = 3)
@test_throws "matrix of colours" levels(grey .> 0.5, white)

@testset "transparent pixels lie on the background" begin
    clear = [RGBA(1.0, 0.0, 0.0, a) for a in (0.0, 1.0, 0.5), _ in 1:1]
    found = levels(clear, below)
    @test found[1, 1, :] == [10, 200, 30] && found[2, 1, :] == [255, 0, 0]
    @test found[3, 1, :] == [133, 100, 15]
    @test levels([GrayA(0.5, 0.0);;], below)[1, 1, :] == [10, 200, 30]
end

how = Preprocessing(; resize = 14, crop = 12)
@test preprocess(how, colours) == preprocess(how, image)
@test_throws "must hold pixels" preprocess(how, colours[1:0, :])
