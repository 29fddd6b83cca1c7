"""What TensorFlow Serving does with an export: its loader's session, and how its batching merges requests."""

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2


class Session:
    """The loader of TensorFlow Serving: a graph, a session, and names from the SignatureDefs."""

    def __init__(self, path):
        self.session = tf.compat.v1.Session(graph=tf.Graph())
        with self.session.graph.as_default():
            loaded = tf.compat.v1.saved_model.load(self.session, ["serve"], str(path))
        self.signatures = loaded.signature_def

    def run(self, signature, **inputs):
        signature = self.signatures[signature]
        return self.session.run(
            {alias: info.name for alias, info in signature.outputs.items()},
            {signature.inputs[alias].name: value for alias, value in inputs.items()},
        )

    def run_unchecked(self, signature, *inputs):
        """Run as C++ does, without Python's comparison of shapes before the run."""
        signature = self.signatures[signature]
        feeds = [signature.inputs[alias].name for alias in sorted(signature.inputs)]
        fetches = [signature.outputs[alias].name for alias in sorted(signature.outputs)]
        return self.session._make_callable_from_options(config_pb2.CallableOptions(feed=feeds, fetch=fetches))(*inputs)

    def run_merged(self, signature, requests, allowed_batch_size=0):
        """Run requests as one batch with `pad_variable_length_inputs`; return the rows of each."""
        sizes = [len(next(iter(request.values()))) for request in requests]
        batch = {name: merged([request[name] for request in requests], allowed_batch_size) for name in requests[0]}
        outputs = self.run(signature, **batch)
        ends = np.cumsum(sizes)
        return [
            {name: values[end - size : end] for name, values in outputs.items()}
            for end, size in zip(ends, sizes, strict=True)
        ]


def merged(tensors, allowed_batch_size=0):
    """Join the tensors of one input: each is padded with its first element, and missing rows repeat the first one."""
    largest = np.max([tensor.shape[1:] for tensor in tensors], axis=0, initial=0)
    padded = []
    for tensor in tensors:
        grown = np.full((len(tensor), *largest.astype(int)), tensor.flat[0], tensor.dtype)
        grown[tuple(slice(size) for size in tensor.shape)] = tensor
        padded.append(grown)
    batch = np.concatenate(padded)
    missing = max(0, allowed_batch_size - len(batch))
    return np.concatenate([batch, np.repeat(batch[:1], missing, axis=0)])
