# From images to answers.

"""
    classify(model::Classifier, image; top = length(model.classes)) -> Vector{Pair{String, Float32}}

The `top` labels of an image with their probabilities, the most probable first. `image` is what
[`preprocess`](@ref) takes. The model's temperature is applied; equal labels keep the order of the
classes. Evaluates as `testmode!` would, and leaves the layers' modes as they are.

```julia
classify(model, image)          # ["bees" => 0.9871f0, "ants" => 0.0129f0]
```
"""
function classify(model::Classifier, image; top::Integer = length(model.classes))
    top >= 1 || throw(ArgumentError("top must be at least 1, got $top"))
    x = preprocess(model.preprocessing, image)
    p = vec(probabilities(model, reshape(x, size(x)..., 1)))
    order = sortperm(p; rev = true, alg = MergeSort)
    return [model.classes[i] => p[i] for i in first(order, top)]
end

"""
    probabilities(model::Classifier, images) -> Matrix{Float32}

Probabilities (classes, N) of preprocessed images (W, H, 3, N), the temperature applied. Throws
`DomainError` where the network's outputs are no numbers.
"""
function probabilities(model::Classifier, images::AbstractArray{Float32, 4})
    net = model.net
    scores = in_test_mode(() -> Array(logits(net, embed(net, images))), net.chain)
    all(isfinite, scores) ||
        throw(DomainError(extrema(scores), "the network's outputs are not finite"))
    return softmax(scores ./ Float32(model.temperature); dims = 1)
end

"What `work` returns with all layers in test mode; each then has its own mode again."
function in_test_mode(work, chain)
    layers = [layer for layer in Flux.modules(chain) if hasproperty(layer, :active)]
    modes = [layer.active for layer in layers]
    Flux.testmode!(chain)
    try
        return work()
    finally
        foreach((layer, mode) -> layer.active = mode, layers, modes)
    end
end
