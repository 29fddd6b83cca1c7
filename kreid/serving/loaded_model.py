"""One version of an export in memory, with the checks and error messages of TensorFlow Serving."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kreid.serving.warmup import read_warmup

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

MAX_ERROR_CHARACTERS = 1024

_PREDICT_METHOD = "tensorflow/serving/predict"
_LONGEST_RUN_S = 24 * 3600
_CPP_NAMES = {"float32": "float", "float64": "double", "float16": "half"}


class RequestRefused(Exception):
    """The error of a request that ends in a status other than OK.

    Args:
        code: name of a gRPC status code.
        message: text for the client, truncated at 1024 characters as by TensorFlow Serving.
    """

    def __init__(self, code: str, message: str) -> None:
        if len(message) > MAX_ERROR_CHARACTERS:
            message = message[:MAX_ERROR_CHARACTERS] + "...TRUNCATED"
        super().__init__(message)
        self.code = code
        self.message = message


class LoadedModel:
    """One version of an export: a graph and a session.

    Args:
        export_dir: folder of the version. Its warm-up requests are run.

    Attributes:
        signatures: dict of signature name to SignatureDef.

    Raises:
        ValueError: if the version cannot be loaded or a warm-up request fails.
    """

    def __init__(self, export_dir: Path) -> None:
        import tensorflow as tf

        self._session = tf.compat.v1.Session(graph=tf.Graph())
        try:
            with self._session.graph.as_default():
                loaded = tf.compat.v1.saved_model.load(self._session, [tf.saved_model.SERVING], str(export_dir))
            self.signatures = dict(loaded.signature_def)
            for signature, inputs in read_warmup(export_dir):
                self.run(signature, {k: tf.make_tensor_proto(v) for k, v in inputs.items()}, [], None, None)
        except (OSError, RuntimeError, ValueError, tf.errors.OpError) as error:
            self.close()
            reason = _graph_message(error) if isinstance(error, tf.errors.OpError) else str(error)
            reason = reason.strip().split("\n", 1)[0].rstrip(".")
            raise ValueError(
                f"This version cannot be loaded ({reason}); copy its folder again or export it again. "
                f"Received: export_dir={export_dir}"
            ) from error
        except RequestRefused as error:
            self.close()
            raise ValueError(
                f"A warm-up request of this version fails ({error.message}); export it again. "
                f"Received: export_dir={export_dir}"
            ) from error

    def close(self) -> None:
        """Free the graph's memory."""
        self._session.close()

    def run(
        self,
        name: str,
        inputs: Mapping[str, Any],
        output_filter: Sequence[str],
        seconds_left: float | None,
        max_tensor_bytes: int | None,
    ) -> dict[str, Any]:
        """Run a signature.

        Args:
            name: of the signature.
            inputs: TensorProto by input name.
            output_filter: names of the outputs to return; all if empty.
            seconds_left: until the client's deadline, or `None`.
            max_tensor_bytes: largest input after unpacking, or `None` for any.

        Returns:
            A dict of output name to TensorProto.

        Raises:
            RequestRefused: if the request does not fit the signature, or the graph fails.
        """
        import tensorflow as tf

        signature = self._signature(name)
        feeds = self._feeds(signature, inputs, max_tensor_bytes)
        aliases = _chosen_outputs(signature, output_filter)
        for position, alias in enumerate(sorted(signature.inputs)):
            _check_tensor(position, alias, signature.inputs[alias], feeds[signature.inputs[alias].name])
        options = None
        if seconds_left is not None:
            if seconds_left <= 0:
                raise RequestRefused("DEADLINE_EXCEEDED", "The deadline passed before the request could run.")
            milliseconds = max(1, int(1000 * min(seconds_left, _LONGEST_RUN_S)))
            options = tf.compat.v1.RunOptions(timeout_in_ms=milliseconds)
        try:
            values = self._session.run([signature.outputs[alias].name for alias in aliases], feeds, options)
        except tf.errors.OpError as error:
            raise RequestRefused(_code_name(error.error_code), _graph_message(error)) from error
        except (ValueError, TypeError, RuntimeError, MemoryError) as error:
            raise RequestRefused("INTERNAL", f"{type(error).__name__}: {error}") from error
        return {alias: tf.make_tensor_proto(value) for alias, value in zip(aliases, values, strict=True)}

    def _signature(self, name: str) -> Any:
        if name not in self.signatures:
            raise RequestRefused("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
        signature = self.signatures[name]
        if signature.method_name != _PREDICT_METHOD:
            raise RequestRefused(
                "FAILED_PRECONDITION",
                f"Expected prediction signature method_name to be one of {{{_PREDICT_METHOD}}}. "
                f"Was: {signature.method_name}",
            )
        return signature

    def _feeds(self, signature: Any, inputs: Mapping[str, Any], max_tensor_bytes: int | None) -> dict[str, np.ndarray]:
        required, sent = set(signature.inputs), set(inputs)
        if len(required) != len(sent):
            raise RequestRefused(
                "INVALID_ARGUMENT",
                f"input size does not match signature: {len(sent)}!={len(required)} len({_names(sent)}) != "
                f"len({_names(required)}). Sent extra: {_names(sent - required)}. "
                f"Missing but required: {_names(required - sent)}.",
            )
        feeds = {}
        for alias in sorted(required):
            feed = signature.inputs[alias].name
            if alias not in sent:
                raise RequestRefused(
                    "INVALID_ARGUMENT",
                    f"Signature input alias: {alias}(feed name: {feed}) not found in request and no default value "
                    f"provided. Inputs expected to be in the set {_names(required)}.",
                )
            feeds[feed] = _read_tensor(alias, inputs[alias], max_tensor_bytes)
        return feeds


def _read_tensor(alias: str, tensor: Any, max_bytes: int | None) -> np.ndarray:
    """Return the array of a TensorProto; refuse it if it is inconsistent or unpacks to too many bytes."""
    import tensorflow as tf

    unreadable = RequestRefused("INVALID_ARGUMENT", f"tensor parsing error: {alias}")
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise unreadable
    try:
        dtype = tf.as_dtype(tensor.dtype)
        # A few bytes can encode any number of equal elements. In Python integers, because NumPy's product overflows.
        elements = 1
        for size in shape:
            elements *= size
        if max_bytes is not None and elements * dtype.size > max_bytes:
            raise unreadable
        return tf.make_ndarray(tensor)
    except (ValueError, TypeError, KeyError) as error:
        raise unreadable from error


def _check_tensor(position: int, alias: str, info: Any, array: np.ndarray) -> None:
    import tensorflow as tf

    expected = tf.as_dtype(info.dtype)
    received = tf.as_dtype(array.dtype)
    if expected != received:
        raise RequestRefused(
            "INVALID_ARGUMENT",
            f"Expects arg[{position}] to be {_cpp_name(expected)} but {_cpp_name(received)} is provided "
            f"(input {alias})",
        )
    shape = [dim.size for dim in info.tensor_shape.dim]
    fits = info.tensor_shape.unknown_rank or (
        len(shape) == array.ndim and all(size in (-1, sent) for size, sent in zip(shape, array.shape, strict=True))
    )
    if not fits:
        expected_shape = ",".join("?" if size == -1 else str(size) for size in shape)
        sent_shape = ",".join(map(str, array.shape))
        raise RequestRefused(
            "INVALID_ARGUMENT",
            f"Shape of input {alias} [{sent_shape}] is not compatible with expected shape [{expected_shape}].",
        )


def _chosen_outputs(signature: Any, output_filter: Sequence[str]) -> Sequence[str]:
    for position, alias in enumerate(output_filter):
        if alias not in signature.outputs:
            raise RequestRefused(
                "INVALID_ARGUMENT",
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{_names(signature.outputs)}.",
            )
        if alias in output_filter[:position]:
            raise RequestRefused("INVALID_ARGUMENT", f"duplicate output tensor alias: {alias}")
    return output_filter or sorted(signature.outputs)


def _names(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"


def _cpp_name(dtype: tf.DType) -> str:
    return _CPP_NAMES.get(dtype.name, dtype.name)


def _code_name(number: int) -> str:
    import grpc

    # TensorFlow's error codes are gRPC's.
    return {code.value[0]: code.name for code in grpc.StatusCode}.get(number, "UNKNOWN")


def _graph_message(error: tf.errors.OpError) -> str:
    """Return the kernel's message without Python's stack, which shows paths of the training machine."""
    message = error.message.removeprefix("Graph execution error:").strip()
    for end in ("\n\t [[", "\n\nOriginal stack trace", "\nDetected at node"):
        message = message.split(end, 1)[0]
    return message.strip() or type(error).__name__
