# What a training step computes on: images as planes, buffers that are used again, work in parts.

"""
Images side by side within a channel, as a matrix (pixels of all images, channels): what belongs to a
channel lies in one piece, and a 1×1 convolution is one matrix product.
"""
struct Planes
    data::Matrix{Float32}
    w::Int
    h::Int
end

images_in(x::Planes) = size(x.data, 1) ÷ (x.w * x.h)
channels_in(x::Planes) = size(x.data, 2)

"""
Buffers of a step, taken as arrays and used again once they are given back, at the latest in the next
step. The arrays hold no reference to their buffers: keep the room (`GC.@preserve`) while they are used.
"""
struct Room
    free::Vector{Vector{Float32}}
    taken::Dict{Ptr{Float32}, Vector{Float32}}
end

Room() = Room(Vector{Float32}[], Dict{Ptr{Float32}, Vector{Float32}}())

"An array of this size, whatever its numbers are."
function room!(room::Room, size::Int...)
    needed = prod(size) + SLACK
    best = 0
    for (i, buffer) in enumerate(room.free)
        # A small array in a large buffer would leave another large one without.
        needed <= length(buffer) <= 2needed || continue
        (best == 0 || length(buffer) < length(room.free[best])) && (best = i)
    end
    buffer = best == 0 ? Vector{Float32}(undef, needed) : popat!(room.free, best)
    room.taken[pointer(buffer)] = buffer
    return unsafe_wrap(Array, pointer(buffer), size)
end

room!(room::Room, like::Planes, channels = channels_in(like)) = Planes(
    room!(room, size(like.data, 1), channels),
    like.w,
    like.h,
)

"Give an array back that nobody reads any more; one from elsewhere is left to the garbage collector."
function give_back!(room::Room, x::Array{Float32})
    buffer = pop!(room.taken, pointer(x), nothing)
    buffer === nothing || push!(room.free, buffer)
    return nothing
end

give_back!(room::Room, x::Planes) = give_back!(room, x.data)
give_back!(room::Room, x) = nothing

"Give everything back."
function give_all_back!(room::Room)
    append!(room.free, values(room.taken))
    empty!(room.taken)
    return nothing
end

"""
Call `work(part, worker)` for parts of 1:count of at most `each`, on all threads. A part's result must
not depend on the worker, so that sums are the same in every run.
"""
function in_parts(work, count, each)
    parts = cld(count, each)
    part(i) = ((i - 1) * each + 1):min(i * each, count)
    workers = min(Threads.nthreads(), parts)
    workers <= 1 && return foreach(i -> work(part(i), 1), 1:parts)
    next = Threads.Atomic{Int}(1)
    @sync for worker in 1:workers
        Threads.@spawn while true
            i = Threads.atomic_add!(next, 1)
            i > parts && break
            work(part(i), worker)
        end
    end
    return nothing
end

# Parts of a count that are worth a thread's while, where each holds so many numbers.
const WORTHWHILE = 32 * 1024
part_of(count, numbers) = clamp(cld(WORTHWHILE, max(numbers, 1)), 1, max(count, 1))

# --- from and to arrays -------------------------------------------------------------------------------

"Images (W, H, C, N) as planes."
function planes(room::Room, x::AbstractArray{Float32, 4})
    w, h, channels, count = size(x)
    y = Planes(room!(room, w * h * count, channels), w, h)
    from = x isa Array ? x : Array(x)
    in_parts(channels, part_of(channels, w * h * count)) do part, _
        for c in part, n in 1:count
            at = ((c - 1) * count + n - 1) * w * h + 1
            copyto!(y.data, at, from, ((n - 1) * channels + c - 1) * w * h + 1, w * h)
        end
    end
    return y
end

planes(room::Room, x) = x

"Planes as images (W, H, C, N)."
function images(x::Planes)
    channels, count, size = channels_in(x), images_in(x), x.w * x.h
    y = Array{Float32}(undef, x.w, x.h, channels, count)
    for c in 1:channels, n in 1:count
        at = ((c - 1) * count + n - 1) * size + 1
        copyto!(y, ((n - 1) * channels + c - 1) * size + 1, x.data, at, size)
    end
    return y
end

images(x) = x
