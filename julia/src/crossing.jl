# How another language calls this package: by text and addresses alone. What crosses has few types, all
# of them known here, so that the calls are compiled with the package and not in every process.
#
# A call is JSON, {"name": …, "arguments": […], "options": {…}}, an array in it
# {"at": address, "type": "float32", "size": […]} with the sizes in Julia's order. The answer is JSON,
# too: {"value": …}, {"number": text} for what JSON cannot hold (NaN), {"array": {…}}, or
# {"error": [type, message]}.

# lower-case names, as NumPy has them => the numbers that cross
const NUMBERS = Dict(lowercase(string(T)) => T for T in (Float32, Float64, Int64))

"An answer, and what it points at."
struct Answer
    text::String
    result::Any
end

# The last one lives until the next: who asks copies it first.
const ANSWER = Ref(Answer("", nothing))

function enter(call::Ptr{UInt8})
    ANSWER[] = answer(unsafe_string(call))
    return pointer(ANSWER[].text)
end

"""
Address of the function that answers calls, C's `const char *answer(const char *call)`, for the thread
that started Julia.
"""
entry() = Int(UInt(@cfunction(enter, Ptr{UInt8}, (Ptr{UInt8},))))

"Do what a call says; never throws."
function answer(call::String)
    return try
        row = parse_json(call, why -> throw(ArgumentError("the call $why")))
        arguments = Any[arrived(each) for each in row["arguments"]]
        options = Pair{Symbol, Any}[Symbol(name) => value for (name, value) in row["options"]]
        asked = getproperty(PyFluxTransfer, Symbol(row["name"]))
        result = isempty(options) ? asked(arguments...) : asked(arguments...; options...)
        Answer(JSON.json(leaving(result)), result)
    catch error
        told = [string(nameof(typeof(error))), sprint(showerror, error)]
        Answer(JSON.json(Dict("error" => told)), nothing)
    end
end

# The caller keeps an array's memory for the call alone.
arrived(value) = value
arrived(values::AbstractVector) = Any[arrived(value) for value in values]
arrived(row::AbstractDict) = haskey(row, "at") ? array_at(NUMBERS[row["type"]], row) : row

function array_at(::Type{T}, row) where {T}
    size = Tuple(Int[row["size"]...])
    return unsafe_wrap(Array, Ptr{T}(UInt(row["at"]::Int)), size)::Array{T}
end

leaving(result::AbstractFloat) = Dict{String, Any}("number" => string(result))
leaving(result) = Dict{String, Any}("value" => result)
function leaving(result::Array{T}) where {T <: Union{Float32, Float64, Int64}}
    row = Dict(
        "at" => address(result),
        "type" => lowercase(string(T)),
        "size" => Int[size(result)...],
    )
    return Dict{String, Any}("array" => row)
end

"Address of the first number."
address(x::Array) = Int(UInt(pointer(x)))
