# One file a file of src. Run as
#   julia --project=<an environment with Flux, Metalhead, Optimisers> julia/test/runtests.jl
# with the package's folder on JULIA_LOAD_PATH, or by Pkg.test.
using PyFluxTransfer
using Flux, NNlib, Optimisers, Random, Test
using PyFluxTransfer: Layer, Network, Plan, Unit, Update

include("plans.jl")
include("bundles.jl")

@testset "PyFluxTransfer" begin
    for name in (
            "plan",
            "layers",
            "head",
            "models",
            "device",
            "slicing",
            "weights",
            "kernels",
            "winograd",
            "rewrite",
            "inference",
            "training",
            "safetensors",
            "resample",
            "images",
            "bundle",
            "classify",
            "newhead",
            "home",
            "bridge",
            "docs",
            "aqua",
        )
        @testset "$name" begin
            include("$name.jl")
        end
    end
end
