# Evaluation preprocessing, equal to Python's: fit the photo into a square, normalise.

const MOST_PIXELS = 4096 # a side, which no network comes near

"""
    Preprocessing(; resize, crop, mean, std, interpolation, background, fit)

How the weights want their images. `fit` makes them `crop` × `crop`: `"crop"` resizes the shorter side
to `resize` and cuts the centre, `"pad"` shows the whole photo on `background`, `"stretch"` shows the
whole photo whatever its shape. Then (value − mean) / std on values scaled to 0 … 1. `background`
(0 … 255) is laid under transparent pixels, too. Throws `ArgumentError` for values that cannot be.

```jldoctest
julia> Preprocessing(resize = 232, interpolation = "bicubic").crop
224
```
"""
Base.@kwdef struct Preprocessing
    resize::Int = 256
    crop::Int = 224
    mean::NTuple{3, Float64} = (0.485, 0.456, 0.406)
    std::NTuple{3, Float64} = (0.229, 0.224, 0.225)
    interpolation::String = "bilinear"
    background::NTuple{3, Int} = (255, 255, 255)
    fit::String = "crop"

    function Preprocessing(resize, crop, mean, std, interpolation, background, fit)
        0 < crop <= resize <= MOST_PIXELS ||
            throw(ArgumentError(
                "crop must be positive and at most resize, resize at most $MOST_PIXELS, got $crop and " *
                    "$resize",
            ))
        length(mean) == length(std) == 3 && all(isfinite, mean) && all(s -> 0 < s < Inf, std) ||
            throw(ArgumentError(
                "mean and std must be three finite numbers each, std above 0, got $mean and $std",
            ))
        length(background) == 3 && all(in(0:255), background) ||
            throw(ArgumentError(
                "background must be three whole numbers from 0 to 255, got $background",
            ))
        haskey(FILTERS, interpolation) ||
            throw(ArgumentError(
                "interpolation must be \"bilinear\" or \"bicubic\", got $(repr(interpolation))",
            ))
        haskey(FITS, fit) ||
            throw(ArgumentError("fit must be \"crop\", \"pad\" or \"stretch\", got $(repr(fit))"))
        return new(resize, crop, Tuple(mean), Tuple(std), interpolation, Tuple(background), fit)
    end
end

# What of a photo each fit shows, as left, top, right, bottom; "pad" reaches beyond its borders.

# Sizes and offsets are rounded as torchvision's Resize and CenterCrop do.
function center_box(width, height, how)
    shorter, crop = min(width, height), how.crop
    new_width = trunc(Int, how.resize * width / shorter)
    new_height = trunc(Int, how.resize * height / shorter)
    left, top = round(Int, (new_width - crop) / 2), round(Int, (new_height - crop) / 2)
    return (
        width * left / new_width,
        height * top / new_height,
        width * (left + crop) / new_width,
        height * (top + crop) / new_height,
    )
end

whole_box(width, height, how) = (0.0, 0.0, Float64(width), Float64(height))

function square_box(width, height, how)
    side = max(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return (left, top, left + side, top + side)
end

const FITS = Dict("crop" => center_box, "pad" => square_box, "stretch" => whole_box)

"""
    preprocess(how::Preprocessing, image) -> Array{Float32, 3}

Make a network's input of one image: (W, H, 3) with W = H = `how.crop`. `image` is an H × W matrix of
colours (`using ColorTypes`, or what brings it: Images, FileIO's readers) or an H × W × 3 array of
`UInt8`. Equal to Python's on the same pixels. Throws `ArgumentError` for anything else.

```jldoctest
julia> size(preprocess(Preprocessing(), zeros(UInt8, 300, 400, 3)))
(224, 224, 3)
```

A batch is `stack(preprocess(how, image) for image in images)`.
"""
preprocess(how::Preprocessing, image) = normalise(fitted(levels(image, how.background), how), how)

"""
An image as H × W × 3 array of `UInt8`, transparent pixels on `background`. The extension for
ColorTypes adds a method for matrices of colours.
"""
function levels(image::AbstractArray{UInt8, 3}, background)
    size(image, 3) == 3 && !isempty(image) ||
        throw(ArgumentError(
            "an image of UInt8 must be H × W × 3, got $(join(size(image), " × ")). Of a 3 × H × W array " *
                "it is permutedims(image, (2, 3, 1))",
        ))
    return image
end

levels(image, background) = throw(ArgumentError(
    "an image must be an H × W matrix of colours, after `using ColorTypes`, or an H × W × 3 array of " *
        "UInt8, got $(summary(image))",
))

"`crop` × `crop` × 3 levels of an image, as `fit` says."
function fitted(image, how)
    rows, columns, _ = size(image)
    side, box = how.crop, FITS[how.fit](columns, rows, how)
    seen = (max(box[1], 0), max(box[2], 0), min(box[3], columns), min(box[4], rows))
    seen == box && return resample(image, side, side, box, how.interpolation)
    left, right = span(side, box[1], box[3], seen[1], seen[3])
    top, bottom = span(side, box[2], box[4], seen[2], seen[4])
    canvas = repeat(reshape(UInt8[how.background...], 1, 1, 3), side, side)
    inner = resample(image, right - left, bottom - top, seen, how.interpolation)
    canvas[(top + 1):bottom, (left + 1):right, :] = inner
    return canvas
end

# The pixels, one at least, that first…last take where begin…stop is `side` pixels.
function span(side, begins, stops, first, last)
    scale = side / (stops - begins)
    low = min(round(Int, (first - begins) * scale), side - 1)
    return low, max(round(Int, (last - begins) * scale), low + 1)
end

function normalise(pixels, how)
    rows, columns, _ = size(pixels)
    out = Array{Float32}(undef, columns, rows, 3)
    for channel in 1:3
        scale = Float32(1 / (255 * how.std[channel]))
        shift = Float32(-how.mean[channel] / how.std[channel])
        for row in 1:rows, column in 1:columns
            out[column, row, channel] = pixels[row, column, channel] * scale + shift
        end
    end
    return out
end
