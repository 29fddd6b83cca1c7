"""One version of an export in memory, with the checks and error messages of TensorFlow Serving."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kreid.serving.export import CARD_FILE, read_card
from kreid.serving.refusal import RequestRefused
from kreid.serving.tensors import read_request_tensor
from kreid.serving.warmup import read_warmup

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

_PREDICT_METHOD = "tensorflow/serving/predict"
_LONGEST_RUN_S = 24 * 3600
_FRAME_LIMIT = 1024  # without a model card
_CPP_NAMES = {"float32": "float", "float64": "double", "float16": "half"}


class LoadedModel:
    """One version of an export: a graph and a session.

    Args:
        export_dir: folder of the version. Its warm-up requests are run.

    Attributes:
        signatures: dict of signature name to SignatureDef.
        fingerprint: of the weights, from the model card, or `None` without one.
        frame_limit: largest number of frames in a request, from the card.

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
            card = _card(export_dir)
            self.fingerprint = card.get("fingerprint")
            self.frame_limit = int(card.get("frame_limit", _FRAME_LIMIT))
            for signature, inputs in read_warmup(export_dir):
                self.run(signature, self.read(signature, {k: tf.make_tensor_proto(v) for k, v in inputs.items()}))
        except (OSError, RuntimeError, ValueError, tf.errors.OpError) as error:
            self.close()
            raise ValueError(
                f"This version cannot be loaded ({_load_error(error, export_dir)}); copy its folder again or export it "
                f"again. Received: export_dir={export_dir}"
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

    def read(self, name: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Read the inputs of a request.

        Args:
            name: of the signature.
            inputs: TensorProto by input name.

        Returns:
            A dict of input name to array.

        Raises:
            RequestRefused: if they do not fit the signature.
        """
        signature = self._signature(name)
        self._check_names(signature, inputs)
        return {alias: read_request_tensor(alias, inputs[alias]) for alias in sorted(inputs)}

    def check(self, name: str, arrays: Mapping[str, np.ndarray], output_filter: Sequence[str]) -> Sequence[str]:
        """Check a request before it runs.

        Args:
            name: of the signature.
            arrays: inputs by name, from `read`.
            output_filter: names of the outputs to return; all if empty.

        Returns:
            The names of the outputs.

        Raises:
            RequestRefused: if dtypes, shapes or outputs do not fit the signature.
        """
        signature = self._signature(name)
        chosen = _chosen_outputs(signature, output_filter)
        for position, alias in enumerate(sorted(signature.inputs)):
            _check_tensor(position, alias, signature.inputs[alias], arrays[alias])
        return chosen

    def run(
        self,
        name: str,
        arrays: Mapping[str, np.ndarray],
        output_filter: Sequence[str] = (),
        seconds_left: float | None = None,
    ) -> dict[str, np.ndarray]:
        """Run a signature.

        Args:
            name: of the signature.
            arrays: inputs by name, from `read`.
            output_filter: names of the outputs to return; all if empty.
            seconds_left: until the client's deadline, or `None`.

        Returns:
            A dict of output name to array.

        Raises:
            RequestRefused: if the request does not fit the signature, or the graph fails.
        """
        import tensorflow as tf

        aliases = self.check(name, arrays, output_filter)
        signature = self.signatures[name]
        options = None
        if seconds_left is not None:
            if seconds_left <= 0:
                raise RequestRefused("DEADLINE_EXCEEDED", "The deadline passed before the request could run.")
            milliseconds = max(1, int(1000 * min(seconds_left, _LONGEST_RUN_S)))
            options = tf.compat.v1.RunOptions(timeout_in_ms=milliseconds)
        fetches = [signature.outputs[alias].name for alias in aliases]
        feeds = {signature.inputs[alias].name: array for alias, array in arrays.items()}
        try:
            return dict(zip(aliases, self._session.run(fetches, feeds, options), strict=True))
        except tf.errors.OpError as error:
            raise RequestRefused(_code_name(error.error_code), _graph_message(error)) from error
        except (ValueError, TypeError, RuntimeError, MemoryError) as error:
            raise RequestRefused("INTERNAL", f"{type(error).__name__}: {error}") from error

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

    def _check_names(self, signature: Any, inputs: Mapping[str, Any]) -> None:
        required, sent = set(signature.inputs), set(inputs)
        if len(required) != len(sent):
            raise RequestRefused(
                "INVALID_ARGUMENT",
                f"input size does not match signature: {len(sent)}!={len(required)} len({_names(sent)}) != "
                f"len({_names(required)}). Sent extra: {_names(sent - required)}. "
                f"Missing but required: {_names(required - sent)}.",
            )
        for alias in sorted(required - sent):
            raise RequestRefused(
                "INVALID_ARGUMENT",
                f"Signature input alias: {alias}(feed name: {signature.inputs[alias].name}) not found in request and "
                f"no default value provided. Inputs expected to be in the set {_names(required)}.",
            )


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


def _card(export_dir: Path) -> dict[str, Any]:
    """Return the version's model card; an empty one for an export of another program."""
    if not (export_dir / CARD_FILE).exists():
        return {}
    try:
        card = read_card(export_dir)
    except ValueError as error:
        raise ValueError(f"damaged card, {CARD_FILE}: {error}") from error
    if not isinstance(card, dict):
        raise ValueError(f"damaged card, {CARD_FILE}: no object")
    return card


def _load_error(error: Exception, export_dir: Path) -> str:
    """Return the first sentence of a loading error, with the file of damaged weights, which TensorFlow leaves out."""
    import tensorflow as tf

    reason = _graph_message(error) if isinstance(error, tf.errors.OpError) else str(error)
    reason = reason.strip().split("\n", 1)[0].rstrip(".") or type(error).__name__
    if not isinstance(error, tf.errors.DataLossError | tf.errors.OutOfRangeError):
        return reason
    kind = "index" if "sstable" in reason or "variables.index" in reason else "data-*"
    files = sorted(f"variables/{path.name}" for path in (export_dir / "variables").glob(f"variables.{kind}"))
    return f"damaged weights, {' or '.join(files)}: {reason}"
