using PyFluxTransfer: fitted, levels, normalise

pattern(h, w) = [
    UInt8((7x + 13y + 101c + x * y % 17 * 5) % 256)
    for y in 0:(h - 1), x in 0:(w - 1), c in 0:2
]

# (height, width, interpolation, fit) => Σ i · level i, row by row, of what Pillow 13.0 makes of it
const PILLOW = (
    (23, 37, "bilinear", "crop") => 11579077,
    (23, 37, "bilinear", "pad") => 11010134,
    (23, 37, "bilinear", "stretch") => 11829354,
    (23, 37, "bicubic", "crop") => 11572005,
    (23, 37, "bicubic", "pad") => 11009712,
    (23, 37, "bicubic", "stretch") => 11834050,
    (64, 48, "bilinear", "crop") => 11975076,
    (64, 48, "bilinear", "pad") => 11062832,
    (64, 48, "bilinear", "stretch") => 11919669,
    (64, 48, "bicubic", "crop") => 11985309,
    (64, 48, "bicubic", "pad") => 11058205,
    (64, 48, "bicubic", "stretch") => 11919356,
    (5, 7, "bilinear", "crop") => 10936923,
    (5, 7, "bilinear", "pad") => 10613015,
    (5, 7, "bilinear", "stretch") => 11272056,
    (5, 7, "bicubic", "crop") => 10916689,
    (5, 7, "bicubic", "pad") => 10612153,
    (5, 7, "bicubic", "stretch") => 11274129,
    (12, 12, "bilinear", "crop") => 12107872,
    (12, 12, "bilinear", "pad") => 12270577,
    (12, 12, "bilinear", "stretch") => 12270577,
    (12, 12, "bicubic", "crop") => 12089529,
    (12, 12, "bicubic", "pad") => 12270577,
    (12, 12, "bicubic", "stretch") => 12270577,
    (3, 90, "bilinear", "crop") => 11623470,
    (3, 90, "bilinear", "pad") => 9564688,
    (3, 90, "bilinear", "stretch") => 11716738,
    (3, 90, "bicubic", "crop") => 11583966,
    (3, 90, "bicubic", "pad") => 9563260,
    (3, 90, "bicubic", "stretch") => 11702589,
)

@testset "$height × $width, $interpolation, $fit: as Pillow" for
    ((height, width, interpolation, fit), sum) in PILLOW

    how = Preprocessing(; resize = 14, crop = 12, interpolation, fit, background = (9, 90, 200))
    pixels = fitted(pattern(height, width), how)
    rows = vec(permutedims(Int.(pixels), (3, 2, 1)))
    @test Base.sum(eachindex(rows) .* rows) == sum
end

@testset "what is shown" begin
    wide = fill(0x80, 10, 40, 3)
    how = Preprocessing(; resize = 80, crop = 80, fit = "pad", background = (1, 2, 3))
    pad = fitted(wide, how)
    @test pad[1, 1, :] == [1, 2, 3] && pad[40, 40, :] == [0x80, 0x80, 0x80]
    @test findall(==(0x80), pad[:, 1, 1]) == 31:50
    @test all(==(0x80), fitted(wide, Preprocessing(; resize = 20, crop = 20, fit = "stretch")))
end

@testset "normalised" begin
    how = Preprocessing(; resize = 2, crop = 2, mean = (0.1, 0.2, 0.3), std = (0.5, 0.25, 2))
    image = pattern(2, 2)
    x = preprocess(how, image)
    @test x isa Array{Float32, 3} && size(x) == (2, 2, 3)
    @test x[2, 1, 3] ≈ (image[1, 2, 3] / 255 - 0.3) / 2
    @test x[1, 2, 2] ≈ (image[2, 1, 2] / 255 - 0.2) / 0.25
    @test preprocess(how, view(image, :, :, :)) == x
end

@testset "refused: $says" for (says, settings) in (
        ("crop must be positive", (; crop = 0)),
        ("crop must be positive", (; crop = 300)),
        ("at most 4096", (; resize = 5000)),
        ("three finite numbers", (; std = (1, 1, 0))),
        ("three finite numbers", (; mean = (NaN, 0, 0))),
        ("whole numbers from 0 to 255", (; background = (0, 0, 256))),
        ("must be \"bilinear\" or \"bicubic\", got \"lanczos\"", (; interpolation = "lanczos")),
        ("must be \"crop\", \"pad\" or \"stretch\", got \"fill\"", (; fit = "fill")),
    )
    @test_throws says Preprocessing(; settings...)
end

@testset "no image" begin
    how = Preprocessing()
    @test_throws "permutedims" preprocess(how, zeros(UInt8, 3, 20, 20))
    @test_throws "H × W × 3" preprocess(how, zeros(UInt8, 0, 20, 3))
    @test_throws "using ColorTypes" preprocess(how, rand(20, 20))
    @test_throws "using ColorTypes" preprocess(how, "bee.jpg")
end

# ColorTypes is no dependency: where the environment has it, its extension is tested.
if Base.identify_package("ColorTypes") === nothing
    @info "ColorTypes is not in this environment: matrices of colours are not tested"
else
    include("colors.jl")
end
