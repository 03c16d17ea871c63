net = tiny_network()
x = images()
whole = logits(net, embed(net, x))
@test size(whole) == (3, 4)
@test embed(net, x) === x
for cut in 1:7
    cut_at!(net, cut)
    @test logits(net, embed(net, x)) ≈ whole rtol = 1.0e-4
    @test embed(net, x) == embed(net, x)
end
@test PyFluxTransfer.apply(net, x, 0, 8) ≈ whole rtol = 1.0e-4
@test PyFluxTransfer.apply(net, x, 0, 3) ≈ trunk(cut_at!(net, 3))(x)
@test PyFluxTransfer.trace(net, (17, 13, 3, 1)) ==
    [(9, 7, 8, 1), (4, 3, 8, 1), (4, 3, 6, 1), (1, 1, 6, 1), (6, 1), (5, 1), (5, 1), (3, 1)]
# New weights reach the rewritten trunk.
old = embed(net, x)
load!(net, random_state(net; seed = 3))
@test !(embed(net, x) ≈ old)
