"""A bundle as an ONNX file, made from the units and the tensors: no engine's framework is needed.

The onnx engine's `graph` collects nodes, its `units` and `trees` write the network; here `pixels`
writes what comes before it, `facts` what the file tells of itself; `running` runs a file and
compares, `int8` quantises.
"""
