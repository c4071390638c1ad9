"""Makes an exported network smaller: weights are kept as float16 and widened when it is loaded."""

from typing import Final

import numpy as np

LEAST_WEIGHTS: Final = 256  # smaller tensors (biases, sizes) stay as they are


def with_half_weights(model: bytes) -> bytes:
    """Return an ONNX file whose large float32 weights are float16, with a cast behind each."""
    # Not above: beside the older of the trackers, whose protobuf is older, onnx is there and cannot be imported.
    import onnx
    from onnx import helper, numpy_helper

    graph_of = onnx.load_from_string(model)
    graph = graph_of.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < LEAST_WEIGHTS:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    for cast in reversed(casts):
        graph.node.insert(0, cast)
    onnx.checker.check_model(graph_of)
    return bytes(graph_of.SerializeToString())
