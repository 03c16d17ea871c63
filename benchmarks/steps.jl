# One side of `benchmarks.steps`: the same layers as plain Flux trains them, with Zygote and Optimisers.
using Flux, Optimisers, PyFluxTransfer
using PyFluxTransfer: Network, parse_plan, tail

const PLAN, STAGE, BATCH = ARGS[1], ARGS[2], parse(Int, ARGS[3])

plan = parse_plan(read(PLAN, String))
net = Network(plan)
cut_at!(net, findfirst(unit -> unit.stage == STAGE, plan.units) - 1)
x, y = embed(net, randn(Float32, 224, 224, 3, BATCH)), Flux.onehotbatch(rand(1:3, BATCH), 1:3)
model = tail(net)
state = Flux.setup(Optimisers.AdamW(1.0f-4), model)

function step(model, x, y)
    loss, gradients = Flux.withgradient(m -> Flux.logitcrossentropy(m(x), y), model)
    Optimisers.update!(state, model, gradients[1])
    return loss
end

busy() = ccall(:clock, Int, ()) / 1.0e6

for line in eachline(stdin)
    if line == "end"
        found = match(r"VmHWM:\s*(\d+) kB", read("/proc/self/status", String))
        println("= ", parse(Int, found[1]) / 1024)
    else
        before = busy()
        wall = @elapsed step(model, x, y)
        println("= ", wall, " ", busy() - before)
    end
    flush(stdout)
end
