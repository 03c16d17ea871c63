"""The engine that evaluates only: ONNX Runtime, on graphs that are made of the units.

`graph` collects nodes, `units`, `trees` and `layers` write a network; `export` uses them, too.
`session` and `network` compute. Neither PyTorch nor Julia is imported.
"""
