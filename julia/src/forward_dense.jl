# Dense layers of a training step, over vectors (D, N) or tokens (D, T, N), and Dropout.

function forward(room, dense::Dense, x::Array{Float32})
    dense.σ isa Activated && dense.weight isa Matrix{Float32} ||
        return forward_by_zygote(room, dense, x)
    size(x, 1) == size(dense.weight, 2) ||
        throw(DimensionMismatch(
            "a Dense layer takes $(size(dense.weight, 2)) numbers, got $(size(x, 1))",
        ))
    from = reshape(x, size(x, 1), :)
    z = Matrix{Float32}(undef, size(dense.weight, 1), size(from, 2))
    in_parts(size(z, 1), thread_parts(size(z, 1), 64)) do part, _
        product!(view(z, part, :), view(dense.weight, part, :), from)
    end
    dense.bias isa AbstractVector && (z .+= dense.bias)
    y = dense.σ === identity ? z : in_vectors(dense.σ).(z)
    function back(dy, wanted)
        given = reshape(dy, size(z))
        dz = dense.σ === identity ? given : given .* slope.(dense.σ, z)
        dw = room!(room, size(dense.weight)...)
        in_parts(size(dw, 2), thread_parts(size(dw, 2), 64)) do part, _
            BLAS.gemm!('N', 'T', 1.0f0, dz, view(from, part, :), 0.0f0, view(dw, :, part))
        end
        db = dense.bias isa AbstractVector ? vec(sum(dz; dims = 2)) : nothing
        dx = wanted ? reshape(weighed_back(dense.weight, dz), size(x)) : nothing
        return dx, mirror_of(dense; weight = dw, bias = db)
    end
    return reshape(y, :, size(x)[2:end]...), back
end

function weighed_back(weight, dz)
    dx = Matrix{Float32}(undef, size(weight, 2), size(dz, 2))
    in_parts(size(dx, 1), thread_parts(size(dx, 1), 64)) do part, _
        BLAS.gemm!('T', 'N', 1.0f0, view(weight, :, part), dz, 0.0f0, view(dx, part, :))
    end
    return dx
end

# The mask comes from the layer's own generator, which every step seeds anew.
function forward(room, layer::Dropout, x::Array{Float32})
    layer.active === false && return x, (dy, _) -> (dy, nothing)
    layer.dims isa Colon || return forward_by_zygote(room, layer, x)
    mask = NNlib.dropout(layer.rng, fill!(similar(x), 1), layer.p)
    return mask .* x, (dy, wanted) -> (wanted ? mask .* dy : nothing, nothing)
end
