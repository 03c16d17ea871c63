# Layers that Flux lacks. None holds parameters.

"Zeros around an image as TensorFlow's SAME asks: as few as needed, the odd one right and below."
struct PadSame
    kernel::Int
    stride::Int
end

function (p::PadSame)(x::AbstractArray{<:Real, 4})
    before(n) = same_padding(n, p.kernel, p.stride) ÷ 2
    after(n) = same_padding(n, p.kernel, p.stride) - before(n)
    w, h = size(x, 1), size(x, 2)
    pads = (before(w), after(w), before(h), after(h), 0, 0, 0, 0)
    return all(iszero, pads) ? x : NNlib.pad_zeros(x, pads)
end

same_padding(n, kernel, stride) = max((cld(n, stride) - 1) * stride + kernel - n, 0)

"""
Adaptive mean pooling to `size` × `size` with PyTorch's windows, which overlap where the image does
not divide evenly and repeat where it is smaller. (Flux's AdaptiveMeanPool drops a border there.)
"""
struct AdaptiveMean
    size::Int
end

function (p::AdaptiveMean)(x::AbstractArray{<:Real, 4})
    w, h, channels, count = Base.size(x)
    w == h == p.size && return x
    # Not by NNlib, which compiles its pooling anew for each size of image.
    p.size == 1 && return sum(x; dims = (1, 2)) ./ (w * h)
    w % p.size == 0 && h % p.size == 0 && return NNlib.meanpool(x, (w ÷ p.size, h ÷ p.size))
    across, down = @ignore_derivatives (windows(x, w, p.size), windows(x, h, p.size))
    rows = reshape(transpose(across) * reshape(x, w, :), p.size, h, :)
    return reshape(NNlib.batched_mul(rows, down), p.size, p.size, channels, count)
end

# (n, windows): column i averages the window ⌊(i−1)n/windows⌋ … ⌈i·n/windows⌉.
function windows(like, n, count)
    weights = zeros(Float32, n, count)
    for i in 1:count
        window = (fld((i - 1) * n, count) + 1):cld(i * n, count)
        weights[window, i] .= 1.0f0 / length(window)
    end
    return copyto!(similar(like, Float32, n, count), weights)
end

"Gaussian error linear unit, exact (NNlib's `gelu` is the tanh approximation)."
gelu(x) = x * (1 + erf(x * oftype(x, sqrt(0.5)))) / 2
