net = tiny_network()
x = images()

# Evaluation keeps arrays of its own, which are no parameters.
logits(net, x)
@test sum(length, Flux.trainables(net)) == sum(length, Flux.trainables(net.chain))
@test all(a === b for (a, b) in zip(Flux.trainables(net), Flux.trainables(net.chain)))

short = sprint(show, net)
@test short ==
    "Network(8 units, $(sum(length, Flux.trainables(net.chain))) parameters, cut before \"a\", cpu)"
long = sprint(show, MIME"text/plain"(), net)
@test startswith(long, short * "\nChain(")
@test occursin("Conv((3, 3), 3 => 8", long) && length(long) < 2000
@test sprint(show, [net]) == "Network[$short]"
@test PyFluxTransfer.spaced(1) == "1"
@test PyFluxTransfer.spaced(25557032) == "25_557_032"
@test length(sprint(show, Inference(net))) < 200

# It is called, mapped and trained as Flux does it.
@test Flux.testmode!(net)(x) ≈ logits(net, x) rtol = 1.0e-4
wide = Flux.f64(net)
@test wide isa Network && wide.cut == net.cut && wide.units === net.units
@test eltype(wide.chain[1].layers[1].weight) == Float64
@test eltype(net.chain[1].layers[1].weight) == Float32
remembered = Flux.setup(Flux.Descent(0.1), net)
before = copy(net.chain[8].bias)
grads = Flux.gradient(net -> sum(net(x)), net)
Flux.update!(remembered, net, grads[1])
@test net.chain[8].bias ≈ before .- 0.4f0
