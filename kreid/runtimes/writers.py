"""Writers of the formats, through the converters of each runtime."""

import contextlib
import gc
import logging
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kreid._quiet import stderr_discarded
from kreid.runtimes.formats import FORMATS, extra_of, import_openvino, quantization_warnings_dropped
from kreid.runtimes.graph import embedding_function

# The newest that tf2onnx writes.
_OPSET = 18
# Smaller constants than weights keep their precision.
_WEIGHTS_FROM = 256


def write_keras(model: Any, file: Path, precision: str) -> None:
    """Write `model.keras`; int8 is Keras's own quantisation."""
    if precision == "int8":
        twin = type(model).from_config(model.get_config())
        twin.set_weights(model.get_weights())
        with quantization_warnings_dropped():
            twin.quantize("int8")
        model = twin
    model.save(file)


def write_onnx(model: Any, file: Path, precision: str) -> None:
    """Write `model.onnx`; weights in half or int8 are turned into float32 when a runtime loads them."""
    with extra_of(FORMATS["onnx"]):
        import onnx
        import onnxruntime  # noqa: F401, which checks the file
        import tf2onnx

    embed = embedding_function(model)
    with _quietly("tf2onnx"):
        try:
            proto, _ = tf2onnx.convert.from_function(embed, embed.input_signature, opset=_OPSET)
        except Exception as error:  # Of many kinds, from the handler of an operation.
            raise _lacks("onnx", [], model, error) from error
    # The converter leaves copies of all weights in circles of objects: gigabytes for a ResNet-50.
    gc.collect()
    # The converter keeps what it does not know under TensorFlow's name.
    lacking = {node.op_type for node in proto.graph.node if not onnx.defs.has(node.op_type, node.domain)}
    if lacking:
        raise _lacks("onnx", lacking, model)
    if precision != "float32":
        _compress(proto, precision)
    onnx.save(proto, str(file))


def _compress(proto: Any, precision: str) -> None:
    """Store the weights of convolutions and matrix products in fewer bits, each with the nodes that restore it."""
    import onnx

    # Of an int8 weight each output channel has a scale: the first axis of convolutions, the last of products.
    channels = {node.input[1]: {"Conv": 0}.get(node.op_type, -1) for node in proto.graph.node if len(node.input) > 1}
    weighted = {n.input[1] for n in proto.graph.node if n.op_type in ("Conv", "MatMul", "Gemm") and len(n.input) > 1}
    restoring = []
    for tensor in list(proto.graph.initializer):
        name, size = tensor.name, int(np.prod(tensor.dims))
        if name not in weighted or tensor.data_type != onnx.TensorProto.FLOAT or size < _WEIGHTS_FROM:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        if precision == "float16":
            stored, scale = values.astype(np.float16), None
        else:
            axes = tuple(np.delete(np.arange(values.ndim), channels[name]))
            scale = np.maximum(np.abs(values).max(axis=axes, keepdims=True), 1e-12) / 127
            stored = np.round(values / scale).astype(np.int8)
        tensor.CopyFrom(onnx.numpy_helper.from_array(stored, f"{name}_{precision}"))
        restored = name if scale is None else f"{name}_unscaled"
        restoring.append(onnx.helper.make_node("Cast", [tensor.name], [restored], to=onnx.TensorProto.FLOAT))
        if scale is not None:
            proto.graph.initializer.append(onnx.numpy_helper.from_array(scale.astype(np.float32), f"{name}_scale"))
            restoring.append(onnx.helper.make_node("Mul", [restored, f"{name}_scale"], [name]))
    nodes = [*restoring, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def write_litert(model: Any, file: Path, precision: str) -> None:
    """Write `model.tflite`; float16 weights are restored when it is loaded, int8 ones are multiplied as int8."""
    with extra_of(FORMATS["litert"]):
        import ai_edge_litert  # noqa: F401, which checks the file
    import tensorflow as tf

    with _saved_model(model) as folder, _quietly("tensorflow"):
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["embed"])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        try:
            content = converter.convert()
        except Exception as error:  # ConverterError, which TensorFlow does not export.
            names = re.findall(r"'tf\.(\w+)' op is neither", str(error))
            raise _lacks("litert", names, model, error) from error
    file.write_bytes(content)


def write_openvino(model: Any, file: Path, precision: str) -> None:
    """Write `model.xml` and `model.bin`; float16 weights are restored when they are loaded."""
    openvino = import_openvino()
    with _saved_model(model) as folder, _quietly("openvino"):
        try:
            converted = openvino.convert_model(folder)
        except Exception as error:  # OpConversionFailure and others.
            found = re.search(r"rule found for operations: ([\w, ]+)", str(error))
            names = re.findall(r"\w+", found[1]) if found else []
            raise _lacks("openvino", names, model, error) from error
        for tensor in converted.inputs:
            name = "frames" if len(tensor.partial_shape) == 5 else "lengths"
            tensor.tensor.set_names({name})
        converted.output(0).tensor.set_names({"embedding"})
        openvino.save_model(converted, str(file), compress_to_fp16=precision == "float16")


WRITERS: dict[str, Callable[[Any, Path, str], None]] = {
    "keras": write_keras,
    "onnx": write_onnx,
    "litert": write_litert,
    "openvino": write_openvino,
}


@contextlib.contextmanager
def _saved_model(model: Any) -> Iterator[str]:
    """Yield the folder of a SavedModel with the one signature `embed`."""
    import tensorflow as tf

    module = tf.Module(name="kreid")
    module.weights = [variable.value for variable in model.embedder.variables]
    with tempfile.TemporaryDirectory(prefix="kreid-") as folder:
        tf.saved_model.save(module, folder, signatures={"embed": embedding_function(model)})
        yield folder


@contextlib.contextmanager
def _quietly(logger: str) -> Iterator[None]:
    """Drop a converter's notices, in Python and from native code; its errors are exceptions."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with stderr_discarded():
            yield
    finally:
        log.setLevel(level)


def _lacks(form: str, operations: Iterable[str], model: Any, error: Exception | None = None) -> ValueError:
    """Return the error of a model with operations that the format lacks, or of a converter that gave up."""
    names = sorted(set(operations))
    if names:
        reason = f"it has no operation for TensorFlow's {', '.join(names)}"
    else:
        reason = str(error).strip().split("\n", 1)[0]
    return ValueError(
        f"{type(model).__name__} cannot be written as {form}, because {reason}; compute it with other operations of "
        f"keras.ops in your layers, or export a SavedModel. Received: format={form!r}"
    )
