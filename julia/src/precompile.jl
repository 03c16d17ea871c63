# What every process needs at its first prediction and its first step, compiled with the package.
# The networks are tiny, their types are those of the real ones.

"A small network of every kind of unit that is not Metalhead's."
function workload_plan()
    leaf(name, op, shape...) = Layer(name, op, collect(shape), op !== :conv)
    unit(name, kind, layers; options...) = Unit(
        name,
        kind,
        "s",
        Dict{String, Any}(string(k) => v for (k, v) in options),
        layers,
    )
    conv = (; stride = 2, padding = 1, bias = false, norm = true, eps = 1.0e-5)
    return Plan(
        "",
        [],
        Dict{Symbol, Any}(),
        [
            unit(
                "a",
                :conv,
                [leaf("a", :conv, 4, 3, 3, 3), leaf("n", :norm, 4)];
                :in => 3,
                :out => 4,
                :kernel => 3,
                :activation => "relu",
                conv...,
            ),
            unit("b", :maxpool, Layer[]; kernel = 2, stride = 2, padding = 0, ceil = false),
            unit(
                "c",
                :conv,
                [leaf("c", :conv, 4, 4, 1, 1), leaf("m", :norm, 4)];
                :in => 4,
                :out => 4,
                :kernel => 1,
                :activation => "relu6",
                conv...,
            ),
            unit("d", :avgpool, Layer[]; size = 1),
            unit("e", :flatten, Layer[]),
            unit("f", :dropout, Layer[]; p = 0.1),
            unit(
                "g",
                :dense,
                [leaf("g", :dense, 5, 4)];
                :in => 4,
                :out => 5,
                :activation => "relu",
            ),
            unit(
                "h",
                :dense,
                [leaf("h", :dense, 2, 5)];
                :in => 5,
                :out => 2,
                :activation => "none",
            ),
        ],
    )
end

# Metalhead's residual blocks with as few channels as their builder allows.
workload_blocks() = [
    Chain(Any[pieces(Metalhead.resnet(block, [2, 1]; nclasses = 2).layers)[3:(end - 1)]...])
    for block in (Metalhead.basicblock, Metalhead.bottleneck)
]

@setup_workload begin
    plan = workload_plan()
    x, y = zeros(Float32, 32, 32, 3, 2), [1, 2]
    @compile_workload begin
        net = Network(plan)
        load!(net, state(net))
        trace(net, (32, 32, 3, 1))
        for cut in (0, 7), optimizer in ("adamw", "adam", "sgd")
            cut_at!(net, cut)
            prepare!(net, Update(; optimizer))
            step!(net, embed(net, x), y, Dict("s" => 0.1))
            logits(net, embed(net, x))
            memory(net)
        end
        for blocks in workload_blocks()
            Flux.withgradient(m -> sum(m(zeros(Float32, 8, 8, 64, 1))), blocks)
        end
    end
end
