module PyFluxTransferCUDAExt

using CUDA, cuDNN
using PyFluxTransfer: PyFluxTransfer
using PyFluxTransfer.Flux: CUDADevice

function PyFluxTransfer.device_name(::CUDADevice)
    device = CUDA.device()
    return "cuda:$(CUDA.deviceid(device)) ($(CUDA.name(device)))"
end

# NNlib takes no other generator for an array of CUDA's. Not run: there was no GPU.
PyFluxTransfer.generator(::CUDADevice) = CUDA.RNG(0)

PyFluxTransfer.synchronize(::CUDADevice) = CUDA.synchronize()

end
