"""
Image transfer learning on Flux and Metalhead: networks as flat chains of units, cut into a frozen
trunk and a trained tail. What to build arrives as data (`Plan`); names are torchvision's.
"""
module PyFluxTransfer

using ChainRulesCore: ChainRulesCore, @ignore_derivatives, NoTangent, unthunk
using Flux
using Flux: BatchNorm, Chain, Conv, Dense, Dropout, Parallel, SkipConnection
using Functors: Functors
using JSON: JSON
using Libdl: Libdl
using LinearAlgebra: BLAS, transpose!
using Metalhead
using NNlib
using Optimisers
using PrecompileTools: @compile_workload, @setup_workload
using Random
using SpecialFunctions: erf
using TOML

# What to build
include("plan.jl")
# Layers that Flux lacks, and the units made of them
include("layers.jl")
include("windows.jl")
include("blocks.jl")
include("head.jl")
include("tree.jl")
# Metalhead's networks as chains of units
include("models.jl")
include("device.jl")
include("kernels.jl")
include("winograd.jl")
include("pool.jl")
include("planes.jl")
include("prepared.jl")
include("slicing.jl")
include("display.jl")
# What is done with them
include("weights.jl")
include("rewrite.jl")
include("places.jl")
include("rewrite_tree.jl")
include("inference.jl")
# A training step on a processor, layer by layer
include("slopes.jl")
include("forward.jl")
include("forward_norm.jl")
include("forward_conv.jl")
include("forward_depthwise.jl")
include("forward_dense.jl")
include("training.jl")
include("update.jl")
# Files and photos, without Python
include("safetensors.jl")
include("resample.jl")
include("images.jl")
include("bundle.jl")
include("classify.jl")
include("newhead.jl")
include("own.jl")
# The same by number, text and address, for another language
include("bridge.jl")
include("crossing.jl")
include("precompile.jl")
include("precompile_files.jl")

export Inference, Layer, Network, Plan, Unit, Update
export BundleError, Classifier, Preprocessing, classify, preprocess, probabilities, with_head
export cut_at!, embed, load!, logits, parse_plan, prepare!, pretrained, state, step!, trunk

end
