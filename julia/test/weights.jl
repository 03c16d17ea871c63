net = tiny_network()
names = sort(collect(keys(state(net))))
@test length(names) == 14
@test "a.1.running_var" in names
@test size(state(net)["fc.0.weight"]) == (6, 5) # the mirror image of (5, 6)

@testset "layouts" begin
    given = random_state(net; seed = 5)
    load!(net, given)
    @test state(net) == given
    # PyTorch's convolution is a correlation: the kernel is turned by 180°.
    @test net.chain[1][1].weight == given["a.0.weight"][3:-1:1, 3:-1:1, :, :]
    @test net.chain[6].weight == permutedims(given["fc.0.weight"])
    @test net.chain[1][2].μ == given["a.1.running_mean"]
    @test net.chain[1][2].σ² == given["a.1.running_var"]
    x = randn(Float32, 5, 5, 3, 1)
    correlated = sum(x[2:4, 2:4, :, 1] .* given["a.0.weight"][:, :, :, 1])
    @test net.chain[1][1](x)[2, 2, 1, 1] ≈ correlated rtol = 1.0e-4
end

@testset "strict, before the first write" begin
    before = state(net)
    fresh = random_state(net; seed = 9)
    lacking = delete!(copy(fresh), "fc.3.bias")
    @test_throws ArgumentError("weights lack 'fc.3.bias'") load!(net, lacking)
    extra = merge(fresh, Dict("more" => zeros(Float32, 1)))
    @test_throws ArgumentError load!(net, extra)
    misshaped = merge(fresh, Dict("fc.3.weight" => zeros(Float32, 3, 5)))
    @test_throws DimensionMismatch load!(net, misshaped)
    @test state(net) == before
end

@testset "published weights" begin
    # AlexNet has none: Metalhead says so, whatever the network does.
    failure = try
        pretrained(read_plan("alexnet"); deadline_s = 120)
    catch error
        sprint(showerror, error)
    end
    @test occursin("No pre-trained weights available for alexnet", failure)
    @test occursin("caused by", failure)
    slow = @async sleep(60)
    @test_throws ErrorException pretrained(read_plan("resnet18"); deadline_s = 0)
end

@testset "published weights that are here but broken" begin
    rows = PyFluxTransfer.TOML.parsefile(joinpath(pkgdir(Metalhead), "Artifacts.toml"))
    mktempdir() do depot
        folder = mkpath(joinpath(depot, "artifacts", rows["squeezenet"]["git-tree-sha1"]))
        write(joinpath(folder, "squeezenet.bson"), "no weights")
        pushfirst!(DEPOT_PATH, depot)
        failure = try
            pretrained(read_plan("squeezenet1_1"); deadline_s = 120)
        catch error
            error
        finally
            popfirst!(DEPOT_PATH)
        end
        @test failure isa PyFluxTransfer.BrokenArtifact
        text = sprint(showerror, failure)
        @test occursin("are here but cannot be read", text)
        @test occursin("Delete $folder and try again", text)
    end
    unknown = PyFluxTransfer.BrokenArtifact("so", String[])
    @test occursin("their folder in", sprint(showerror, unknown))
end
