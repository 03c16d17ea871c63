# BatchNorm with the activation behind it, channel by channel: a channel's numbers lie in one piece and
# stay in the cache between the passes over them.

norm_here(layer, x) = false
norm_here(norm::BatchNorm, x) = x isa Planes &&
    norm.affine &&
    norm.track_stats &&
    norm.λ isa Activated

forward(room, norm::BatchNorm, x::Planes) = norm_here(norm, x) ?
    forward_norm(room, norm, norm.λ, x) :
    forward_by_zygote(room, norm, x)

function forward_norm(room, norm, f, x)
    learns = norm.active !== false
    rows, channels = size(x.data)
    learns &&
        rows == 1 &&
        throw(DomainError(
            norm,
            "BatchNorm cannot learn from one value a channel. Use a batch of at least 2 images, or " *
                "freeze_bn.",
        ))
    y = room!(room, x)
    mean, scale = room!(room, channels), room!(room, channels) # scale: 1 / √(variance + eps)
    in_parts(channels, part_of(channels, rows)) do part, _
        for c in part
            if learns
                mean[c], variance = mean_and_variance(x.data, c)
                scale[c] = 1 / sqrt(variance + norm.ϵ)
                remember!(norm, c, mean[c], variance, rows)
            else
                mean[c], scale[c] = norm.μ[c], 1 / sqrt(norm.σ²[c] + norm.ϵ)
            end
            factor = norm.γ[c] * scale[c]
            normalise!(in_vectors(f), y.data, x.data, c, mean[c], factor, norm.β[c])
        end
    end
    back(dy, wanted) = back_norm(room, norm, f, learns, x, mean, scale, dy, wanted)
    return y, back
end

function mean_and_variance(x, c)
    rows = size(x, 1)
    sum, squares = 0.0f0, 0.0f0
    @inbounds @simd for i in 1:rows
        sum += x[i, c]
    end
    mean = sum / rows
    @inbounds @simd for i in 1:rows
        squares += (x[i, c] - mean)^2
    end
    return mean, squares / rows
end

# As Flux and PyTorch: the running variance is the unbiased one.
function remember!(norm, c, mean, variance, rows)
    share = norm.momentum
    unbiased = rows / (rows - 1.0f0)
    norm.μ[c] = (1 - share) * norm.μ[c] + share * mean
    norm.σ²[c] = (1 - share) * norm.σ²[c] + share * unbiased * variance
    return nothing
end

function normalise!(f::F, y, x, c, mean, factor, shift) where {F}
    @inbounds @simd ivdep for i in axes(x, 1)
        y[i, c] = f(muladd(x[i, c] - mean, factor, shift))
    end
    return nothing
end

function back_norm(room, norm, f, learns, x, mean, scale, dy, wanted)
    rows, channels = size(x.data)
    dx, dγ, dβ = room!(room, x), room!(room, channels), room!(room, channels)
    in_parts(channels, part_of(channels, rows)) do part, _
        for c in part
            factor = norm.γ[c] * scale[c]
            sum, along = back_sums!(f, dx.data, dy.data, x.data, c, mean[c], factor, norm.β[c])
            dβ[c], dγ[c] = sum, along * scale[c]
            wanted || continue
            # Through the mean and the variance, where they are those of the batch.
            a, b = learns ? (sum / rows, along * scale[c]^2 / rows) : (0.0f0, 0.0f0)
            back_through!(dx.data, x.data, c, mean[c], factor, a, b)
        end
    end
    wanted || give_back!(room, dx)
    return wanted ? dx : nothing, mirror_of(norm; γ = dγ, β = dβ)
end

"dz of a channel, its sum, and its sum weighed by the distance from the mean."
function back_sums!(f::F, dz, dy, x, c, mean, factor, shift) where {F}
    sum, along = 0.0f0, 0.0f0
    @inbounds @simd ivdep for i in axes(x, 1)
        d = x[i, c] - mean
        g = dy[i, c] * slope(f, muladd(d, factor, shift))
        dz[i, c] = g
        sum += g
        along = muladd(g, d, along)
    end
    return sum, along
end

function back_through!(dz, x, c, mean, factor, a, b)
    @inbounds @simd ivdep for i in axes(x, 1)
        dz[i, c] = factor * (dz[i, c] - a - b * (x[i, c] - mean))
    end
    return nothing
end
