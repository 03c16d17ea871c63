"""A bundle as an ONNX file, made from the units and the tensors: no engine's framework is needed.

`graph` collects nodes, `units` and `trees` write the network, `pixels` what comes before it,
`facts` what the file tells of itself; `running` runs a file and compares, `int8` quantises.
"""
