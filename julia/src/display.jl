# A network as a Flux object: its parameters are those of its chain, and it shows itself as one.

(net::Network)(x) = net.chain(x)

Functors.functor(::Type{Network}, net) = (; net.chain), parts -> with_chain(net, parts.chain)

"The same network around another chain of the same units; on another device it must be prepared anew."
function with_chain(net::Network, chain)
    here = all(x -> x isa Array, Flux.trainables(chain))
    device = here ?
        Flux.cpu_device() :
        net.device isa Flux.CPUDevice ? Flux.gpu_device() : net.device
    other = Network(
        net.units,
        chain,
        device,
        net.cut,
        net.update,
        net.rules,
        net.steps,
        Kept(length(net.units)),
        net.own,
    )
    return typeof(device) === typeof(net.device) ? other : prepare!(other, net.update)
end

function Base.show(io::IO, net::Network)
    count = sum(length, Flux.trainables(net.chain); init = 0)
    cut = net.units[net.cut + 1].name
    print(io, "Network(", length(net.units), " units, ", spaced(count), " parameters, ")
    return print(io, "cut before \"", cut, "\", ", device_name(net.device), ")")
end

function Base.show(io::IO, ::MIME"text/plain", net::Network)
    show(io, net)
    get(io, :compact, false) && return nothing
    println(io)
    return show(io, MIME"text/plain"(), net.chain)
end

# 25557032 as 25_557_032.
spaced(count) = replace(string(count), r"(?<=\d)(?=(\d{3})+$)" => "_")
