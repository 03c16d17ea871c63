# Frozen trunks against the same Flux layers called as they are, in turn in one process, with the same BLAS
# and threads. Run by `python -m benchmarks.trunk`: one line a plan.
using Flux, PyFluxTransfer
using PyFluxTransfer: Network, parse_plan

const IMAGES, ROUNDS = parse(Int, ARGS[1]), parse(Int, ARGS[2])

"Seconds by the clock, and of all processors."
function taken(work)
    busy = ccall(:clock, Int, ())
    wall = @elapsed work()
    return wall, (ccall(:clock, Int, ()) - busy) / 1.0e6
end

println("ceiling\t", PyFluxTransfer.ceiling(), "\t", PyFluxTransfer.blas_kernels())
for path in ARGS[3:end]
    plan = parse_plan(read(path, String))
    net = Network(plan)
    cut_at!(net, findfirst(unit -> unit.stage == "head", plan.units) - 1)
    # The same arrays, so that the results can be compared.
    plain = Flux.testmode!(trunk(net))
    x = randn(Float32, 224, 224, 3, IMAGES)
    expected = plain(x)
    difference = maximum(abs, embed(net, x) .- expected) / maximum(abs, expected)
    rounds = [(taken(() -> plain(x)), taken(() -> embed(net, x))) for _ in 1:ROUNDS]
    least(side, clock) = 1000 * minimum(round[side][clock] for round in rounds) / IMAGES
    println(join(
        (basename(path), least(1, 1), least(1, 2), least(2, 1), least(2, 2), difference),
        '\t',
    ))
    flush(stdout)
end
