using PyFluxTransfer: depth, read_tensors, write_tensors

folder = mktempdir()
path = joinpath(folder, "new", "t.safetensors")
given = Dict(
    "number" => fill(3.5f0),
    "none" => zeros(Float32, 0, 2),
    "matrix" => reshape(Float32.(1:6), 3, 2),
    "four" => rand(Float32, 3, 2, 5, 4),
)

@testset "what is written comes back" begin
    @test write_tensors(path, given, Dict("a" => "b", "ü" => "\"\n")) == path
    tensors, metadata = read_tensors(path)
    @test tensors == given && metadata == Dict("a" => "b", "ü" => "\"\n")
    @test readdir(dirname(path)) == ["t.safetensors"]
    bytes = read(path)
    length = only(reinterpret(UInt64, bytes[1:8]))
    @test length % 8 == 0
    header = JSON.parse(String(bytes[9:(8 + length)]))
    # Row by row, so the last axis is Julia's first.
    @test header["matrix"]["shape"] == [2, 3] && header["four"]["shape"] == [4, 5, 2, 3]
end

@testset "a write that fails leaves the old file whole" begin
    before = read(path)
    bad = Dict{String, Any}("x" => ["no number"])
    @test_throws Exception write_tensors(path, bad, Dict("a" => "b"))
    @test read(path) == before && readdir(dirname(path)) == ["t.safetensors"]
end

"A file with this header, whatever it says, and so many bytes behind it."
function forged(text, bytes; length = ncodeunits(text))
    place = joinpath(folder, "forged.safetensors")
    Base.open(io -> write(io, UInt64(length), text, zeros(UInt8, bytes)), place, "w")
    return place
end

entry(
    shape,
    first,
    last;
    dtype = "F32",
) = "{\"dtype\":\"$dtype\",\"shape\":$shape,\"data_offsets\":[$first,$last]}"

@testset "a header is compared with the file: $says" for (text, bytes, says) in (
        ("{\"a\":$(entry([1], 0, 4)),\"b\":$(entry([1], 0, 4))}", 4, "overlap or leave gaps"),
        ("{\"a\":$(entry([2], 0, 8)),\"b\":$(entry([1], 4, 8))}", 8, "overlap or leave gaps"),
        ("{\"a\":$(entry([1], 4, 8))}", 8, "overlap or leave gaps"),
        ("{\"a\":$(entry([1], 0, 4))}", 3, "holds 3 bytes of numbers instead of 4"),
        ("{\"a\":$(entry([1], 0, 4))}", 5, "holds 5 bytes"),
        ("{\"a\":$(entry([2], 0, 4))}", 4, "another size than its place"),
        ("{\"a\":$(entry([1], 4, 0))}", 4, "another size than its place"),
        ("{\"a\":$(entry([2^62, 4], 0, 0))}", 0, "too large"),
        ("{\"a\":$(entry([10, 2^62, 2^62, 0], 0, 0))}", 0, "too large"),
        ("{\"a\":$(entry([-1], 0, 4))}", 4, "has no shape"),
        ("{\"a\":$(entry([1.0], 0, 4))}", 4, "has no shape"),
        ("{\"a\":$(entry("[true]", 0, 4))}", 4, "has no shape"),
        ("{\"a\":$(entry("[1$("0"^25)]", 0, 4))}", 4, "has no shape"),
        ("{\"a\":$(entry(ones(Int, 9), 0, 4))}", 4, "has no shape"),
        ("{\"a\":$(entry([1], -4, 0))}", 4, "has no place"),
        ("{\"a\":$(entry([1], 0, "4,8"))}", 4, "has no place"),
        ("{\"a\":$(entry([2], 0, 4; dtype = "F16"))}", 4, "is F16, not F32"),
        ("{\"a\":3}", 4, "is not described by"),
        ("{\"a\":{\"dtype\":\"F32\"}}", 4, "is not described by"),
        ("[1]", 0, "no JSON object"),
        ("{", 0, "is no JSON"),
        ("{}}", 0, "is no JSON"),
        ("\xff\xfe", 0, "no UTF-8"),
        ("{\"a\":" * "["^100_000, 0, "nested more than"),
        ("{\"__metadata__\":{\"a\":1}}", 0, "must be texts"),
        ("{\"__metadata__\":3}", 0, "must be texts"),
    )
    found = refusal(() -> read_tensors(forged(text, bytes)))
    @test occursin(says, something(found, "nothing was refused"))
    @test occursin("forged.safetensors", something(found, ""))
end

@testset "its length is compared with the file" begin
    for length in (3, 100, 2^40, typemax(UInt64))
        found = refusal(() -> read_tensors(forged("{}", 0; length)))
        @test occursin(r"would have|cut short", something(found, ""))
    end
    @test read_tensors(forged("{}", 0)) == (Dict(), Dict())
    @test_throws "no such file" read_tensors(joinpath(folder, "none"))
    @test_throws "no such file" read_tensors(folder)
end

@testset "a file cut short anywhere is refused" begin
    whole = read(path)
    place = joinpath(folder, "cut.safetensors")
    for count in [0:9; 10:37:(length(whole) - 1); length(whole) - 1]
        write(place, whole[1:count])
        @test_throws BundleError read_tensors(place)
    end
end

@test depth("{\"a[[\\\"[\": [[1], \"[[[\"]}") == 3
@test depth("") == 0
