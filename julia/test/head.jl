using PyFluxTransfer: make

units = tiny_plan().units
@test make(units[1]) isa Chain
@test make(units[1])[2].ϵ ≈ 1.0e-5
@test make(units[4])(ones(Float32, 3, 3, 2, 1)) == ones(Float32, 1, 1, 2, 1)
@test make(units[6]).σ === PyFluxTransfer.gelu
@test make(units[7]).p == 0.5
@test make(units[7]).rng isa MersenneTwister
# Nothing to drop needs no generator.
@test make(tiny_plan(; dropout = 0.0).units[7]) === identity
@test make(conv_unit("x", "s", 3, 4, 1; norm = false, bias = true)) isa Conv

same = conv_unit("x", "s", 3, 4, 3; padding = "same", stride = 2, activation = "relu6")
@test size(make(same)(ones(Float32, 8, 7, 3, 1))) == (4, 4, 4, 1)
straight = conv_unit("x", "s", 3, 4, 5; padding = "same")
@test size(make(straight)(ones(Float32, 8, 7, 3, 1))) == (8, 7, 4, 1)

inverted(; settings...) = Unit("i", :inverted, "s", options(; eps = 1.0e-3, settings...), [])
block = make(inverted(;
    :in => 4,
    :mid => 8,
    :out => 4,
    :kernel => 3,
    :stride => 1,
    :padding => 1,
    :residual => true,
))
@test block isa SkipConnection && length(block.layers) == 6
block = make(inverted(;
    :in => 4,
    :mid => 4,
    :out => 6,
    :kernel => 5,
    :stride => 2,
    :padding => "same",
    :residual => false,
))
@test size(block(ones(Float32, 8, 7, 4, 1))) == (4, 4, 6, 1)

@test_throws ArgumentError make(Unit("?", :unheard, "s", options(), []))
