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
function on_device(device, chain::Chain)
    device isa Flux.CPUDevice && return chain
    layers = Any[
        layer isa Dropout ?
            Dropout(layer.p, layer.dims, layer.active, generator(device)) :
            device(layer)
        for layer in chain.layers
    ]
    return Chain(layers)
end
