# What docstrings and docs/julia.md show is run.

"A module of its own, as a session that begins with `using PyFluxTransfer`."
function session()
    fresh = Module()
    Core.eval(fresh, :(using PyFluxTransfer))
    return fresh
end

"All docstrings of the package, as written."
function docstrings()
    multi = values(Base.Docs.meta(PyFluxTransfer))
    return [
        join(doc.text)
        for each in multi
        if each isa Base.Docs.MultiDoc
        for doc in values(each.docs)
    ]
end

"Pairs of what is typed and what is answered in a doctest."
function exchanges(block)
    found = Pair{String, String}[]
    for part in split(block, "julia> "; keepempty = false)
        typed, answered = split(part * "\n", '\n'; limit = 2)
        push!(found, typed => strip(answered))
    end
    return found
end

doctests = [m[1] for text in docstrings() for m in eachmatch(r"```jldoctest\n(.*?)```"s, text)]
@test length(doctests) >= 2
@testset "doctest: $(first(split(block, '\n')))" for block in doctests
    place = session()
    for (typed, answered) in exchanges(block)
        value = include_string(place, typed)
        @test strip(repr(MIME("text/plain"), value)) == answered
    end
end

@testset "exported names are documented" begin
    for name in Base.names(PyFluxTransfer)
        text = string(Base.Docs.doc(Base.Docs.Binding(PyFluxTransfer, name)))
        @test !occursin("No documentation found", text)
    end
    for name in (:open, :save)
        @test haskey(Base.Docs.meta(PyFluxTransfer), Base.Docs.Binding(PyFluxTransfer, name))
    end
end

# The section of the page that is for Julia sessions; the rest of it is about Python's set-up.
page = joinpath(pkgdir(PyFluxTransfer), "..", "docs", "julia.md")
if isfile(page)
    section = split(read(page, String), "## From a Julia session")[2]
    blocks = [m[1] for m in eachmatch(r"```julia\n(.*?)```"s, section)]
    @test length(blocks) >= 5
    @testset "docs/julia.md" begin
        place = session()
        image = [UInt8((7x + 13y + 101c) % 256) for y in 0:29, x in 0:39, c in 0:2]
        Core.eval(place, :(image = $image))
        cd(mktempdir()) do
            tiny_bundle("bees.safetensors")
            for block in blocks
                @test (include_string(place, block, "docs/julia.md"); true)
            end
            better = PyFluxTransfer.open("better.safetensors")
            @test better.temperature == 1 && better.info["note"] == "two epochs in Julia"
            @test better.net.cut == 7
        end
    end
end
