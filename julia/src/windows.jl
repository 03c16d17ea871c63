# Pooling by windows, with PyTorch's results and gradients. NNlib's gradients (0.9.36) are not used:
# that of the maximum goes to the first value within a relative 3e-4 of it, and both count a window
# twice that reaches over two borders.

"Max pooling with padding."
struct WindowMax
    kernel::Int
    stride::Int
    padding::Int
end

(p::WindowMax)(x::AbstractArray{<:Real, 4}) = highest(
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
    return highest(x, p.kernel, p.stride, pads)
end

# A window must start before the padding behind the image.
function ceil_windows(n, kernel, stride, padding = 0)
    windows = cld(n + 2padding - kernel, stride) + 1
    return (windows - 1) * stride >= n + padding ? windows - 1 : windows
end

"The largest of each window; `pads` lie left, right, above and below."
highest(x, kernel, stride, pads) = NNlib.maxpool(x, (kernel, kernel); stride, pad = pads)

function ChainRulesCore.rrule(::typeof(highest), x::Array, kernel, stride, pads)
    y = highest(x, kernel, stride, pads)
    function back(dy)
        dx = zero(x)
        give_first!(dx, unthunk(dy), y, x, kernel, stride, pads)
        return NoTangent(), dx, NoTangent(), NoTangent(), NoTangent()
    end
    return y, back
end

# Of equal values the first takes the gradient, row by row.
function give_first!(dx, dy, y, x, kernel, stride, pads)
    left, _, above, _ = pads
    reach(i, pad, n) = max((i - 1) * stride - pad + 1, 1):min((i - 1) * stride - pad + kernel, n)
    for n in axes(y, 4), c in axes(y, 3), j in axes(y, 2), i in axes(y, 1)
        columns, rows = reach(i, left, size(x, 1)), reach(j, above, size(x, 2))
        first = findfirst(==(y[i, j, c, n]), view(x, columns, rows, c, n))
        first === nothing && continue # not a number
        dx[columns[first[1]], rows[first[2]], c, n] += dy[i, j, c, n]
    end
    return dx
end

"Mean pooling; the zeros of the padding count."
struct WindowMean
    kernel::Int
    stride::Int
    padding::Int
end

function (p::WindowMean)(x::AbstractArray{<:Real, 4})
    around = p.padding
    around > 0 && (x = NNlib.pad_zeros(x, (around, around, around, around, 0, 0, 0, 0)))
    return NNlib.meanpool(x, (p.kernel, p.kernel); p.stride)
end
