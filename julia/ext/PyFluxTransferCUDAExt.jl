module PyFluxTransferCUDAExt

using CUDA, cuDNN
using PyFluxTransfer: PyFluxTransfer
using PyFluxTransfer.Flux: CUDADevice

function PyFluxTransfer.device_name(::CUDADevice)
    device = CUDA.device()
    return "cuda:$(CUDA.deviceid(device)) ($(CUDA.name(device)))"
end

PyFluxTransfer.synchronize(::CUDADevice) = CUDA.synchronize()

end
