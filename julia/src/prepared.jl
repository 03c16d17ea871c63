# Units as they are evaluated: what was made of their weights is kept beside the network, and made
# anew when the weights are no longer those it was made of.

"A unit's operations (nothing where its own layer is as good), the layer and a checksum of its arrays."
struct Prepared
    operations::Any
    layer::Any
    sum::UInt64
end

"What a network keeps of its evaluation and its steps."
struct Kept
    units::Vector{Union{Nothing, Prepared}}
    lock::ReentrantLock
    pool::Pool
    room::Room # of a training step
end

Kept(count::Integer) = Kept(
    fill!(Vector{Union{Nothing, Prepared}}(undef, count), nothing),
    ReentrantLock(),
    Pool(),
    Room(),
)

"Forget what was made of weights that have changed."
forget!(kept::Kept, range) = lock(() -> kept.units[range] .= nothing, kept.lock)

"""
A unit's operations, made where they are not there yet. `watch` reads all of the unit's weights to
see whether they have changed since.
"""
function prepared!(kept::Kept, unit::Unit, layer, index; watch)
    held = lock(() -> kept.units[index], kept.lock)
    usable(held, layer, watch) && return held.operations
    return lock(kept.lock) do
        # Another task may have been faster.
        held = kept.units[index]
        usable(held, layer, watch) && return held.operations
        sum = checksum(layer)
        kept.units[index] = Prepared(rewrite(unit, layer), layer, sum)
        return kept.units[index].operations
    end
end

usable(::Nothing, layer, watch) = false
usable(held::Prepared, layer, watch) = !watch ||
    held.operations === nothing ||
    (held.layer === layer && held.sum == checksum(layer))

# --- a checksum of all arrays of a layer --------------------------------------------------------------

const FNV_PRIME = 0x00000100000001b3
const FNV_LANES = 64

"Checksum of every number in a layer's arrays; one that changes always changes it."
checksum(layer) = checksum(0xcbf29ce484222325, layer)

checksum(sum::UInt64, x::AbstractArray{<:Number}) = xor(sum, numbers(x)) * FNV_PRIME
checksum(sum::UInt64, x::Union{Random.AbstractRNG, Symbol, String, Module, Type}) = sum
checksum(sum::UInt64, x::AbstractArray) = foldl(checksum, x; init = sum)

function checksum(sum::UInt64, @nospecialize(x))
    for i in 1:nfields(x)
        isdefined(x, i) && (sum = checksum(sum, getfield(x, i))::UInt64)
    end
    return sum
end

numbers(x::AbstractArray) = foldl(
    (sum, number) -> xor(sum, hash(number)) * FNV_PRIME,
    x;
    init = FNV_PRIME,
)

# FNV-1a over words instead of bytes, in as many lanes as vectors hold: as fast as memory is read.
function numbers(x::Array{Float32})
    words = reinterpret(UInt32, vec(x))
    lanes = ones(UInt32, FNV_LANES)
    blocks = length(words) ÷ FNV_LANES
    for block in 0:(blocks - 1)
        @inbounds @simd ivdep for lane in 1:FNV_LANES
            lanes[lane] = xor(lanes[lane], words[FNV_LANES * block + lane]) * 0x01000193
        end
    end
    sum = FNV_PRIME
    for word in Iterators.flatten((lanes, view(words, (FNV_LANES * blocks + 1):length(words))))
        sum = xor(sum, UInt64(word)) * FNV_PRIME
    end
    return sum
end
