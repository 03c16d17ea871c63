# Reading, preparing and writing, compiled with the package: what a session does first.

@setup_workload begin
    folder = mktempdir()
    path = joinpath(folder, "a.safetensors")
    image = zeros(UInt8, 20, 30, 3)
    header = Dict{String, Any}("a" => Any[1, "b", 0.5, true, nothing])
    @compile_workload begin
        write_tensors(path, Dict("a" => zeros(Float32, 2, 2)), Dict(KEY => JSON.json(header)))
        parse_json(last(read_tensors(path))[KEY], error)
        for interpolation in keys(FILTERS)
            preprocess(Preprocessing(; resize = 9, crop = 8, interpolation), image)
        end
    end
    rm(folder; recursive = true)
end
