# Files of tensors in the safetensors format (https://github.com/huggingface/safetensors): eight bytes
# with the length of a header, the header in JSON (name => type, sizes, place), then the numbers. They
# lie row by row and come as column-major mirror images: (O, I, kH, kW) there is (kW, kH, I, O) here.
#
# A file may come from anywhere: nothing in it is believed before it was compared with its size.

"""
    BundleError(message)

A file that is no bundle, is damaged, or is of another version. The message tells what to do.
"""
struct BundleError <: Exception
    message::String
end

Base.showerror(io::IO, error::BundleError) = print(io, "BundleError: ", error.message)

const HEADER_BYTES = 100_000_000 # the most that the format allows
const DEPTH = 64 # of JSON in JSON: deeper, a parser that calls itself may not come back

unreadable(path, why) = throw(BundleError(
    "$path is not a readable .safetensors file ($why). It may be cut short: copy it again.",
))

"Where a tensor lies: its sizes in Julia's order and its bytes, counted from the header's end."
struct Extent
    size::Vector{Int}
    first::Int
    last::Int # the byte behind it
end

"""
    read_tensors(path) -> tensors, metadata

Read a safetensors file whose tensors are `F32`: name => array, and the metadata's texts. Throws
`BundleError` for a file that is damaged, with the reason.
"""
function read_tensors(path::AbstractString)
    isfile(path) || throw(ArgumentError("no such file: $path"))
    return Base.open(path) do io
        places, metadata = read_header(io, path)
        start = position(io)
        tensors = Dict{String, Array{Float32}}()
        for (name, place) in places
            seek(io, start + place.first)
            x = Array{Float32}(undef, place.size...)
            read!(io, x)
            tensors[name] = ENDIAN_BOM == 0x04030201 ? x : ltoh.(x)
        end
        return tensors, metadata
    end
end

"The header's places and metadata; leaves the file where the numbers begin."
function read_header(io::IO, path)
    size = filesize(io)
    size >= 8 || unreadable(path, "it has $size bytes")
    length = ltoh(read(io, UInt64))
    length <= min(HEADER_BYTES, size - 8) || unreadable(path, "its header would have $length bytes")
    header = parse_json(String(read(io, Int(length))), why -> unreadable(path, "its header $why"))
    header isa AbstractDict || unreadable(path, "its header is no JSON object")
    metadata = pop!(header, "__metadata__", Dict{String, Any}())
    metadata isa AbstractDict && all(text -> text isa String, values(metadata)) ||
        unreadable(path, "its metadata must be texts")
    places = Dict{String, Extent}()
    foreach(((name, row),) -> places[name] = place_of(path, name, row), header)
    check_places(path, values(places), size - position(io))
    return places, Dict{String, String}(metadata)
end

"""
Parse JSON as `Dict`, `Vector`, `String`, numbers, `Bool` and `nothing`; `refuse` is called with the
reason where that cannot be.
"""
function parse_json(text::String, refuse)
    isvalid(text) || refuse("is no UTF-8")
    depth(text) <= DEPTH || refuse("is nested more than $DEPTH deep")
    return try
        JSON.parse(text; dicttype = Dict{String, Any})
    catch error
        error isa InterruptException && rethrow()
        refuse("is no JSON: " * first(split(sprint(showerror, error), '\n')))
    end
end

"How deep arrays and objects lie in each other."
function depth(text::String)
    now, deepest, quoted, escaped = 0, 0, false, false
    for byte in codeunits(text)
        if quoted
            quoted = escaped || byte != UInt8('"')
            escaped = !escaped && byte == UInt8('\\')
        elseif byte == UInt8('"')
            quoted = true
        elseif byte == UInt8('[') || byte == UInt8('{')
            deepest = max(deepest, now += 1)
        elseif byte == UInt8(']') || byte == UInt8('}')
            now -= 1
        end
    end
    return deepest
end

function place_of(path, name, row)
    wrong(why) = unreadable(path, "its tensor '$name' $why")
    row isa AbstractDict && keys(row) == Set(("dtype", "shape", "data_offsets")) ||
        wrong("is not described by dtype, shape and data_offsets")
    row["dtype"] == "F32" ||
        throw(BundleError(
            "$path is damaged or was edited. Its tensor '$name' is $(row["dtype"]), not F32.",
        ))
    shape, offsets = row["shape"], row["data_offsets"]
    counts(values) = values isa AbstractVector && all(n -> n isa Int && n >= 0, values)
    counts(shape) && length(shape) <= 8 || wrong("has no shape")
    counts(offsets) && length(offsets) == 2 || wrong("has no place")
    bytes = try
        foldl(Base.Checked.checked_mul, shape; init = 4)
    catch error
        error isa OverflowError ? wrong("is too large") : rethrow()
    end
    offsets[2] - offsets[1] == bytes || wrong("has another size than its place")
    return Extent(reverse(shape), offsets...)
end

# One behind the other, from the first byte to the last: nothing overlaps, nothing is left over.
function check_places(path, places, bytes)
    next = 0
    for place in sort!(collect(places); by = place -> (place.first, place.last))
        place.first == next || unreadable(path, "its tensors overlap or leave gaps")
        next = place.last
    end
    next == bytes || unreadable(path, "it holds $bytes bytes of numbers instead of $next")
    return nothing
end

"""
    write_tensors(path, tensors, metadata) -> path

Write a safetensors file of `Float32` arrays (name => array, as `read_tensors` gives them) and texts.
It is written beside `path`, flushed to the disk and renamed: there is the old file or the new one,
whole.
"""
function write_tensors(path::AbstractString, tensors::AbstractDict, metadata::AbstractDict)
    names = sort!(collect(keys(tensors)))
    header, next = Dict{String, Any}("__metadata__" => metadata), 0
    for name in names
        bytes = 4 * length(tensors[name])
        header[name] = Dict(
            "dtype" => "F32",
            "shape" => Int[reverse(size(tensors[name]))...],
            "data_offsets" => [next, next + bytes],
        )
        next += bytes
    end
    text = JSON.json(header)
    text *= " "^mod(-ncodeunits(text), 8) # numbers begin at a multiple of eight
    replacing(path) do io
        write(io, htol(UInt64(ncodeunits(text))), text)
        foreach(name -> write(io, htol.(Array{Float32}(tensors[name]))), names)
    end
    return path
end

"Let `work` write a file beside `path`; at the end it takes the place of `path`."
function replacing(work, path)
    folder = mkpath(dirname(abspath(path)))
    temporary = tempname(folder; cleanup = false)
    try
        Base.open(temporary, "w") do io
            work(io)
            flush(io)
            Sys.isunix() && systemerror("fsync", ccall(:fsync, Cint, (Cint,), fd(io)) != 0)
        end
        Base.Filesystem.rename(temporary, path)
    finally
        rm(temporary; force = true)
    end
    return path
end
