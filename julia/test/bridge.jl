const Bridge = PyFluxTransfer
text = read(joinpath(@__DIR__, "plans", "squeezenet1_1.toml"), String)
number = Bridge.create(text, "cpu")
net = Bridge.NETWORKS[number]
@test Bridge.name_of_device(number) == "cpu"
@test Bridge.wait_for(number) === nothing
@test_throws ErrorException Bridge.create_pretrained(text, 0)

@testset "a download goes to the user's depot" begin
    mktempdir() do own
        old = copy(DEPOT_PATH)
        pushfirst!(DEPOT_PATH, own)
        withenv("PYFLUX_DEPOT" => own) do
            @test Bridge.in_shared_depot(() -> copy(DEPOT_PATH)) == old
            @test_throws ErrorException Bridge.in_shared_depot(() -> error("no luck"))
        end
        @test first(DEPOT_PATH) == own
        withenv("PYFLUX_DEPOT" => nothing) do
            @test first(Bridge.in_shared_depot(() -> copy(DEPOT_PATH))) == own
        end
        copy!(DEPOT_PATH, old)
    end
end

x = images(2; width = 64, height = 48)
@test Bridge.logits_batch(number, Bridge.embed_batch(number, x)) ≈ net.chain(x)
Bridge.cut_network(number, 5)
@test Bridge.logits_batch(number, Bridge.embed_batch(number, x)) ≈ net.chain(x) rtol = 1.0e-3
@test Bridge.apply_units(number, x, 0, 2) ≈ net.chain[1:2](x)

Bridge.prepare_network(
    number;
    optimizer = "sgd",
    weight_decay = 0.0,
    momentum = 0.9,
    beta1 = 0.9,
    beta2 = 0.999,
    eps = 1.0e-8,
    label_smoothing = 0.1,
    freeze_bn = false,
    seed = 3,
)
@test net.update.label_smoothing == 0.1
stages = ("block3", "block4", "head")
features = Bridge.embed_batch(number, x)
# Labels count from 0 here.
loss = Bridge.step_batch(number, features, [0, 999], stages, (0.1, 0.1, 0.1), nothing)
@test loss isa Float64 && isfinite(loss)
@test Bridge.step_batch(
    number,
    features,
    [0, 999],
    stages,
    (0.0, 0.0, 0.0),
    ones(Float32, 1000),
) isa
    Float64
@test Bridge.steps_done(number) == 2

table = Bridge.trace_network(number, (1, 3, 48, 64))
@test table[:, 1] == [4, 1, 64, 23, 31]
@test table[:, end] == [2, 1, 1000, 0, 0]

given = state(net)
names = collect(keys(given))
arrays = [zeros(Float32, size(given[name])) for name in names]
Bridge.store_state(number, names, arrays)
@test all(arrays[i] == given[name] for (i, name) in enumerate(names))
foreach(a -> a .*= 2, arrays)
Bridge.load_state(number, names, arrays)
@test state(net)["classifier.1.weight"] == 2 .* given["classifier.1.weight"]

moved = Bridge.memory(net)
slots = collect(keys(moved))
moments = [zeros(Float32, Bridge.outside_size(moved[name])) for name in slots]
Bridge.store_memory(number, slots, moments)
@test any(!iszero, moments[1])
Bridge.load_memory(number, 7, slots, moments)
@test Bridge.steps_done(number) == 7

Bridge.release(number)
@test !haskey(Bridge.NETWORKS, number)

report = Dict(split(line, '\t') for line in Bridge.report())
@test report["Julia"] == string(VERSION)
@test haskey(report, "Flux") && haskey(report, "BLAS kernels")
@test Bridge.ceiling(; n = 64, repeats = 1) > 0
