# Reading, preparing and writing, compiled with the package: what a session does first.

"Take a small file and a small photo the ways that a bundle and a photo go."
function go_through_files(place)
    path = joinpath(place, "a.safetensors")
    text = JSON.json(Dict{String, Any}("a" => Any[1, "b", 0.5, true, nothing]))
    write_tensors(path, Dict("a" => zeros(Float32, 2, 2)), Dict(KEY => text))
    parse_json(last(read_tensors(path))[KEY], error)
    for interpolation in keys(FILTERS)
        preprocess(Preprocessing(; resize = 9, crop = 8, interpolation), zeros(UInt8, 20, 30, 3))
    end
    return nothing
end

@setup_workload begin
    @compile_workload begin
        mktempdir(go_through_files)
    end
end
