net = tiny_network()
@test net.cut == 0
@test length(trunk(net)) == 0
cut_at!(net, 3)
@test length(trunk(net)) == 3 && length(PyFluxTransfer.tail(net)) == 5
# Slices share their arrays.
@test trunk(net)[1][1].weight === net.chain[1][1].weight
@test_throws ArgumentError cut_at!(net, 8)
@test_throws ArgumentError cut_at!(net, -1)

# The trunk is in test mode even inside a gradient, the tail follows the gradient.
@test net.chain[1][2].active === false
cut_at!(net, 0)
@test net.chain[1][2].active === nothing
prepare!(net, Update(; freeze_bn = true))
@test net.chain[1][2].active === false
@test net.chain[7].active === nothing

@test sort(collect(keys(PyFluxTransfer.rules!(net))))[1:3] ==
    ["a.0.weight", "a.1.bias", "a.1.weight"]
cut_at!(net, 5)
@test sort(collect(keys(PyFluxTransfer.rules!(net)))) ==
    ["fc.0.bias", "fc.0.weight", "fc.3.bias", "fc.3.weight"]
