# What tests/engines/test_home.py lets a plain Julia do: open a bundle, classify photos, train, save.
#
#     julia home.jl BUNDLE PHOTOS SIZE SAVED ANSWERS
#
# PHOTOS are bytes of N photos of SIZE, "N,H,W", row by row as NumPy writes them.
using PyFluxTransfer, Flux
using PyFluxTransfer: write_tensors

bundle, photos, size, saved, answers = ARGS
count, rows, columns = parse.(Int, split(size, ','))
bytes = permutedims(reshape(read(photos), 3, columns, rows, count), (3, 2, 1, 4))
images = collect(eachslice(bytes; dims = 4))

model = PyFluxTransfer.open(bundle)
x = stack(preprocess(model.preprocessing, image) for image in images)
before = probabilities(model, x)
for (image, column) in zip(images, eachcol(before))
    answer = classify(model, image)
    @assert isapprox(last(answer[1]), maximum(column); atol = 1.0f-5)
    @assert first(answer[1]) == model.classes[argmax(column)]
end

# Flux's own training: the last stage and the head, the rest frozen.
first_trained = findfirst(unit -> unit.stage == "stage4", model.net.units)
chain = model.net.chain
optimizer = Flux.setup(Adam(1.0f-3), chain)
foreach(layer -> Flux.freeze!(layer), optimizer.layers[1:(first_trained - 1)])
y = Flux.onehotbatch(mod1.(1:count, length(model.classes)), eachindex(model.classes))
Flux.testmode!(chain)
for _ in 1:3
    loss, grads = Flux.withgradient(m -> Flux.logitcrossentropy(m(x), y), chain)
    Flux.update!(optimizer, chain, grads[1])
end
model.info["note"] = "trained in Julia"
PyFluxTransfer.save(saved, model)
loaded = string.(nameof.(values(Base.loaded_modules)))
@assert !("PythonCall" in loaded)
write_tensors(
    answers,
    Dict("images" => x, "before" => before, "after" => probabilities(model, x)),
    Dict{String, String}(),
)
