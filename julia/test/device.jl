cpu = Flux.cpu_device()
@test PyFluxTransfer.device_name(cpu) == "cpu"
@test PyFluxTransfer.synchronize(cpu) === nothing
@test PyFluxTransfer.has_gpu() == !(Flux.gpu_device() isa Flux.CPUDevice)
@test PyFluxTransfer.load_gpu() == PyFluxTransfer.has_gpu()
struct OtherDevice end
@test PyFluxTransfer.device_name(OtherDevice()) == "OtherDevice"
