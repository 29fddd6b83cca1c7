"""Count the multiplications of embedding a tracklet."""

import math
from typing import Any

from kreid.models.tracklet_model import TrackletModel


def count_macs(model: TrackletModel, num_frames: int) -> int:
    """Count the multiplications of embedding one tracklet: convolutions and matrix products, as papers do.

    They are counted in the embedder's TensorFlow graph, so they are those that each layer really computes.
    Element-wise products, normalisations and poolings do not count.

    Args:
        model: a model of `kreid.models`.
        num_frames: frames of the tracklet.

    Returns:
        Multiply-accumulate operations, an int.

    Raises:
        ValueError: if there is not at least one frame.

    Example:

    >>> backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32))
    >>> model = kreid.models.Baseline(backbone, num_identities=10)
    >>> kreid.models.count_macs(model, 2) == 2 * kreid.models.count_macs(model, 1)
    True
    """
    import tensorflow as tf

    if num_frames < 1:
        raise ValueError(f"A tracklet has at least one frame. Received: num_frames={num_frames!r}")

    @tf.function
    def embed(frames, lengths):
        return model.embedder({"frames": frames, "lengths": lengths}, training=False)

    graph = embed.get_concrete_function(
        tf.TensorSpec((1, num_frames, *model.image_size, 3), tf.uint8), tf.TensorSpec((1,), tf.int32)
    ).graph
    return graph_macs(graph)


def graph_macs(graph: Any) -> int:
    """Count the same in any TensorFlow graph with known shapes."""
    return sum(_macs(operation) for operation in graph.get_operations())


def _macs(operation):
    if operation.type not in ("Conv2D", "DepthwiseConv2dNative", "MatMul", "BatchMatMulV2", "Einsum"):
        return 0
    shapes = [tensor.shape.as_list() for tensor in operation.inputs]
    outputs = math.prod(operation.outputs[0].shape.as_list())
    if operation.type == "Conv2D":
        return outputs * math.prod(shapes[1][:3])
    if operation.type == "DepthwiseConv2dNative":
        return outputs * math.prod(shapes[1][:2])
    if operation.type == "MatMul":
        return outputs * shapes[0][0 if operation.get_attr("transpose_a") else 1]
    if operation.type == "BatchMatMulV2":
        return outputs * shapes[0][-2 if operation.get_attr("adj_x") else -1]
    letters = operation.get_attr("equation").decode().split("->")[0].split(",")
    sizes = {}
    for names, shape in zip(letters, shapes, strict=True):
        sizes.update(zip(names, shape, strict=True))
    return math.prod(sizes.values())
