# Evaluation mode: same input, same output, nothing remembered.

"Run the trunk on images (W, H, 3, N)."
function embed(net::Network, images::AbstractArray)
    net.cut == 0 && return images
    net.device isa Flux.CPUDevice || return trunk(net)(net.device(images))
    net.fast === nothing && (net.fast = FastTrunk(net.units[1:net.cut], trunk(net)))
    return net.fast(images)
end

"Run the tail on what `embed` returned."
logits(net::Network, x::AbstractArray) = tail(net)(net.device(x))

"Run units start … stop − 1, counted from 0."
function apply(net::Network, x::AbstractArray, start::Integer, stop::Integer)
    return net.chain[(start + 1):stop](net.device(x))
end

"Sizes of each unit's output for an input of this size; runs the network once on zeros."
function trace(net::Network, size)
    x = net.device(zeros(Float32, size))
    sizes = Tuple[]
    for layer in net.chain.layers
        x = layer(x)
        push!(sizes, Base.size(x))
    end
    return sizes
end
