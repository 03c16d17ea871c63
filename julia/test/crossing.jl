const Crossing = PyFluxTransfer
using JSON: JSON

"What is answered to a call."
function asked(name, arguments...; options...)
    call = JSON.json(Dict("name" => name, "arguments" => arguments, "options" => Dict(options)))
    GC.@preserve call Crossing.enter(pointer(call))
    return JSON.parse(Crossing.ANSWER[].text)
end

row(x, type) = Dict("at" => Crossing.address(x), "type" => type, "size" => size(x))

@testset "arrays of another language stay where they are" begin
    x = images()
    wrapped = Crossing.arrived(Dict(
        "at" => Crossing.address(x),
        "type" => "float32",
        "size" => Any[size(x)...],
    ))
    @test wrapped isa Array{Float32, 4} && size(wrapped) == size(x)
    wrapped[1] = 42.0f0
    @test x[1] == 42.0f0
    @test asked("address", row(x, "float32"))["value"] == Int(UInt(pointer(x)))
end

@testset "what is asked is done" begin
    @test Crossing.entry() isa Int
    text = read(joinpath(@__DIR__, "plans", "squeezenet1_1.toml"), String)
    number = asked("create", text, "cpu")["value"]
    net = Crossing.NETWORKS[number]
    x = images(2; width = 64, height = 48)
    found = GC.@preserve x asked("apply_units", number, row(x, "float32"), 0, 2)["array"]
    @test found["type"] == "float32"
    y = copy(Crossing.array_at(Float32, found))
    @test y ≈ net.chain[1:2](x)
    @test asked("trace_network", number, (1, 3, 48, 64))["array"]["type"] == "int64"
    @test asked("release", number)["value"] === nothing
    @test asked("report")["value"] == Crossing.report()
    @test asked("load_gpu")["value"] isa Bool
    @test parse(Float64, asked("ceiling"; n = 64, repeats = 1)["number"]) > 0
end

@testset "numbers that JSON has not, and errors, are told" begin
    @test Crossing.leaving(NaN)["number"] == "NaN"
    @test Crossing.leaving(-Inf)["number"] == "-Inf"
    @test asked("name_of_device", -1)["error"] == ["KeyError", "KeyError: key -1 not found"]
    kind, message = asked("check", Dict(), [("a", ())])["error"]
    @test kind == "ArgumentError" && message == "ArgumentError: weights lack 'a'"
    @test JSON.parse(Crossing.answer("{").text)["error"][1] == "ArgumentError"
    @test asked("no_such_name")["error"][1] == "UndefVarError"
end
