# The frozen trunk against a plain Metalhead call and against the matrix-product ceiling, in turn in
# one process, with the same BLAS and threads. Run by `python -m benchmarks.trunk`.
using Metalhead, PyFluxTransfer
using PyFluxTransfer: Flux, Network, parse_plan

const PLAN, IMAGES = ARGS[1], parse(Int, ARGS[2])

plan = parse_plan(read(PLAN, String))
# The network takes the layers of this very model: the plain call has the same weights.
model = PyFluxTransfer.metalhead(plan)
plain = Flux.testmode!(Metalhead.backbone(model))
net = Network(plan.units, PyFluxTransfer.chain_of(plan, model), Flux.cpu_device())
cut_at!(net, findfirst(unit -> unit.stage == "head", plan.units) - 1)
x = randn(Float32, 224, 224, 3, IMAGES)

difference = maximum(abs, embed(net, x) .- plain(x)) / maximum(abs, plain(x))
rounds = map(1:10) do _
    (PyFluxTransfer.ceiling(), @elapsed(plain(x)), @elapsed(embed(net, x)))
end
seconds(i) = minimum(round[i] for round in rounds) / IMAGES
println("plain\t", 1000 * seconds(2))
println("trunk\t", 1000 * seconds(3))
println("ceiling\t", maximum(first, rounds))
println("difference\t", difference)
println("kernels\t", PyFluxTransfer.blas_kernels())
