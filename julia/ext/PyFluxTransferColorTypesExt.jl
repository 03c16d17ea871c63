module PyFluxTransferColorTypesExt

using ColorTypes:
    AbstractGray,
    AbstractRGB,
    Color,
    Colorant,
    RGB,
    alpha,
    blue,
    color,
    gray,
    green,
    red
using PyFluxTransfer: PyFluxTransfer

# Transparent pixels are laid on the background as Pillow pastes them.
function PyFluxTransfer.levels(image::AbstractMatrix{<:Colorant}, background)
    isempty(image) && throw(ArgumentError("an image must hold pixels, got size $(size(image))"))
    out = Array{UInt8}(undef, size(image)..., 3)
    for (place, pixel) in pairs(IndexCartesian(), image)
        opacity = level(alpha(pixel))
        for (channel, value) in enumerate(channels(color(pixel)))
            out[Tuple(place)..., channel] = blend(background[channel], level(value), opacity)
        end
    end
    return out
end

channels(c::AbstractRGB) = (red(c), green(c), blue(c))
channels(c::AbstractGray) = (gray(c), gray(c), gray(c))
channels(c::Color) = channels(convert(RGB{Float32}, c)) # of other spaces: Colors.jl knows how

level(value) = round(UInt8, 255 * clamp(Float64(value), 0.0, 1.0))

# (below · (255 − opacity) + above · opacity) / 255, rounded: Pillow's DIV255.
function blend(below, above, opacity)
    sum = below * (255 - Int(opacity)) + Int(above) * opacity + 128
    return ((sum >> 8 + sum) >> 8) % UInt8
end

end
