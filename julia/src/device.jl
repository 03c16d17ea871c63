# Where arrays live. CUDA and cuDNN are weak dependencies: without them everything is on the CPU.

"Load CUDA and cuDNN where the environment has them; whether a GPU can be used now."
function load_gpu()
    for name in ("CUDA", "cuDNN")
        package = Base.identify_package(name)
        package === nothing && return false
        Base.locate_package(package) === nothing && return false
        Base.require(package)
    end
    return Base.invokelatest(has_gpu)
end

has_gpu() = !(Flux.gpu_device() isa Flux.CPUDevice)

"What the network runs on, in words; the CUDA extension knows more."
device_name(device) = device isa Flux.CPUDevice ? "cpu" : string(nameof(typeof(device)))

"Wait until the device has done all that was asked."
synchronize(device) = nothing

"A generator of random numbers for masks that are drawn on the device."
generator(device) = MersenneTwister(0)

"The chain on the device. Flux moves arrays alone: a device that draws for itself has its own generator."
on_device(device, chain::Chain) = device isa Flux.CPUDevice ? chain : rebuilt(device, device, chain)

"The same layers with every leaf as `move` makes it, and each Dropout with a generator of its own."
rebuilt(move, device, layers) = Functors.fmap(
    leaf -> leaf isa Dropout ?
        Dropout(leaf.p, leaf.dims, leaf.active, generator(device)) :
        move(leaf),
    layers;
    exclude = part -> part isa Dropout || Functors.isleaf(part),
)
