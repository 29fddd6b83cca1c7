"""Requests as TensorFlow Serving's own messages."""

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2


def make_spec(request, spec):
    """Fill a request's model_spec; `None` leaves it out."""
    if spec is not None:
        request.model_spec.SetInParent()
        for field, value in spec.items():
            if field == "version":
                request.model_spec.version.value = value
            else:
                setattr(request.model_spec, field, value)
    return request


def make_request(spec, inputs, output_filter=()):
    """Return a PredictRequest. An input is an array, or a dict of a tensor's dtype, shape and raw content."""
    request = make_spec(predict_pb2.PredictRequest(output_filter=output_filter), spec)
    for alias, value in inputs.items():
        tensor = request.inputs[alias]
        if isinstance(value, dict):
            tensor.dtype, tensor.tensor_content = value["dtype"], value["content"]
            for size in value["shape"]:
                tensor.tensor_shape.dim.add(size=size)
        else:
            tensor.CopyFrom(tf.make_tensor_proto(value))
    return request
