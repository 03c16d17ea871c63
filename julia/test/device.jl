cpu = Flux.cpu_device()
@test PyFluxTransfer.device_name(cpu) == "cpu"
@test PyFluxTransfer.synchronize(cpu) === nothing
@test PyFluxTransfer.has_gpu() == !(Flux.gpu_device() isa Flux.CPUDevice)
@test PyFluxTransfer.load_gpu() == PyFluxTransfer.has_gpu()
struct OtherDevice end
@test PyFluxTransfer.device_name(OtherDevice()) == "OtherDevice"
@test PyFluxTransfer.generator(OtherDevice()) isa MersenneTwister

# Arrays move by the device's own way, a generator is made for it.
(::OtherDevice)(layer) = Flux.f64(layer)
pair = Chain([Dense(2 => 2), Dropout(0.3)])
@test PyFluxTransfer.on_device(cpu, pair) === pair
moved = PyFluxTransfer.on_device(OtherDevice(), pair)
@test eltype(moved[1].weight) == Float64
@test moved[2].p == 0.3 && moved[2].rng !== pair[2].rng
