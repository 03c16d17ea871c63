# One file a file of src. Run as
#   julia --project=<an environment with Flux, Metalhead, Optimisers> julia/test/runtests.jl
# with the package's folder on JULIA_LOAD_PATH, or by Pkg.test.
using PyFluxTransfer
using Flux, Metalhead, NNlib, Optimisers, Random, Test
using PyFluxTransfer: Layer, Network, Plan, Unit, Update

include("plans.jl")
include("trees.jl")
include("bundles.jl")

@testset "PyFluxTransfer" begin
    for name in (
            "plan",
            "layers",
            "windows",
            "blocks",
            "head",
            "tree",
            "models",
            "device",
            "slicing",
            "display",
            "weights",
            "kernels",
            "winograd",
            "rewrite",
            "places",
            "rewrite_tree",
            "inference",
            "forward",
            "training",
            "safetensors",
            "resample",
            "images",
            "bundle",
            "classify",
            "newhead",
            "own",
            "home",
            "bridge",
            "crossing",
            "docs",
            "aqua",
        )
        @testset "$name" begin
            include("$name.jl")
        end
    end
end
