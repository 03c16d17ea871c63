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

# Images up to so many windows wide are padded before they are pooled: where a window reaches over
# both borders, NNlib's gradient (0.9.36) counts it twice.
const WINDOWS = 2

"Pool with `NNlib.maxpool` or `NNlib.meanpool`; `fill` lies around the image."
function pooled(pool, fill, x, kernel, stride, pads)
    if any(>(0), pads) && minimum(size(x)[1:2]) < WINDOWS * kernel
        x = NNlib.pad_constant(x, (pads..., 0, 0, 0, 0), convert(eltype(x), fill))
        pads = (0, 0, 0, 0)
    end
    return pool(x, (kernel, kernel); stride, pad = pads)
end

"Max pooling with padding."
struct WindowMax
    kernel::Int
    stride::Int
    padding::Int
end

(p::WindowMax)(x::AbstractArray{<:Real, 4}) = pooled(
    NNlib.maxpool,
    -Inf,
    x,
    p.kernel,
    p.stride,
    ntuple(_ -> p.padding, 4),
)

"Mean pooling; the zeros of the padding count."
struct WindowMean
    kernel::Int
    stride::Int
    padding::Int
end

(p::WindowMean)(x::AbstractArray{<:Real, 4}) = pooled(
    NNlib.meanpool,
    0,
    x,
    p.kernel,
    p.stride,
    ntuple(_ -> p.padding, 4),
)

"Max pooling that keeps a last window which hangs over the border."
struct CeilMaxPool
    kernel::Int
    stride::Int
    padding::Int
end

CeilMaxPool(kernel, stride) = CeilMaxPool(kernel, stride, 0)

function (p::CeilMaxPool)(x::AbstractArray{<:Real, 4})
    last(n) = (ceil_windows(n, p.kernel, p.stride, p.padding) - 1) * p.stride + p.kernel
    hang(n) = max(last(n) - n - p.padding, 0)
    pads = (p.padding, hang(size(x, 1)), p.padding, hang(size(x, 2)))
    return pooled(NNlib.maxpool, -Inf, x, p.kernel, p.stride, pads)
end

# A window must start before the padding behind the image.
function ceil_windows(n, kernel, stride, padding = 0)
    windows = cld(n + 2padding - kernel, stride) + 1
    return (windows - 1) * stride >= n + padding ? windows - 1 : windows
end

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
