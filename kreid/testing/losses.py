"""The contract of losses."""

import functools
import inspect
import json
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike, NDArray

from kreid.testing._common import gradient_function, require

_require = functools.partial(require, "A loss")


def check_loss(
    loss_class: type[keras.losses.Loss], kwargs: dict[str, Any], y_true: ArrayLike, y_pred: ArrayLike
) -> NDArray[np.float32]:
    """Check that a loss fulfils kreid's contract, of kreid's losses or your own.

    The checks:

    - the keys of the config are the arguments of the constructor with their
      values, and the loss revived from JSON gives equal values and gradients;
    - value and gradients are finite, float32, and depend on the predictions;
    - labels may be int32, int64, float32 and of shape `(batch, 1)`;
    - with float16 and bfloat16 predictions, under the policy `mixed_float16` and
      with a half precision `dtype`, the loss is computed in float32;
    - the compiled loss, by XLA too, agrees with the eager one, and a model trains.

    Args:
        loss_class: subclass of `keras.losses.Loss`.
        kwargs: dict of constructor arguments, preferably not the defaults.
        y_true: integers `(batch,)`.
        y_pred: floats `(batch, features)` at which the gradient is not zero.

    Returns:
        The value, a float32 NumPy array.

    Raises:
        AssertionError: if a check fails, with a sentence on it.

    Example:

    >>> logits = np.array([[1.0, 2.0], [0.5, 0.0]], dtype="float32")
    >>> value = kreid.testing.losses.check_loss(
    ...     kreid.losses.SmoothedIdentity, {"smoothing": 0.2}, np.array([0, 1]), logits
    ... )
    >>> value.shape
    ()
    """
    y_true, y_pred = np.asarray(y_true, "int32"), np.asarray(y_pred, "float32")
    loss = loss_class(**kwargs)
    value, gradient = value_and_gradient(loss, y_true, y_pred)
    _require(value.dtype == np.float32, f"the value is float32, not {value.dtype}")
    _require(np.isfinite(value).all() and np.isfinite(gradient).all(), "value and gradients are finite")
    _require(
        np.abs(gradient).max() > 0, "the loss depends on these predictions; give others if its gradient is zero here"
    )

    _check_config(loss_class, loss, kwargs, (y_true, y_pred), (value, gradient))
    for labels in (y_true.astype("int64"), y_true.astype("float32"), y_true[:, None]):
        same = ops.convert_to_numpy(loss(labels, y_pred))
        _require(np.array_equal(same, value), f"labels {labels.dtype} {labels.shape} give the value of int32 ones")
    _check_precision(loss_class, loss, kwargs, y_true, y_pred)

    for name, compiled in _compiled(loss, y_pred.shape[-1]).items():
        same = ops.convert_to_numpy(compiled(ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)))
        _require(
            np.allclose(same, value, rtol=1e-5, atol=1e-6), f"the loss compiled by {name} agrees with the eager one"
        )
    if value.ndim == 0:
        _check_training(loss, y_true, y_pred)
    return value


def value_and_gradient(
    loss: Callable[[Any, Any], Any], y_true: ArrayLike, y_pred: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Return a loss's value, and the gradient of its sum for the predictions, on TensorFlow and JAX.

    Args:
        loss: callable of labels and predictions.
        y_true: array of labels.
        y_pred: float array of predictions.

    Returns:
        A tuple of NumPy arrays: the value and the gradient.

    Raises:
        NotImplementedError: on another backend.
    """
    y_true = ops.convert_to_tensor(y_true)
    value, gradient, _ = gradient_function(lambda predictions: loss(y_true, predictions))(y_pred)
    return value, np.zeros_like(y_pred) if gradient is None else gradient


def _check_config(loss_class, loss, kwargs, batch, expected):
    config = loss.get_config()
    arguments = set(inspect.signature(loss_class.__init__).parameters) - {"self"}
    _require(
        set(config) == arguments,
        f"the config names every argument of the constructor: {sorted(set(config) ^ arguments)} differ",
    )
    for key, value in kwargs.items():
        if isinstance(value, (int, float, str)):
            _require(config[key] == value, f"the config keeps {key}={value!r}, not {config[key]!r}")
    written = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
    twin = keras.saving.deserialize_keras_object(written)
    for original, revived in zip(expected, value_and_gradient(twin, *batch), strict=True):
        _require(np.array_equal(original, revived), "the loss revived from its config gives equal values and gradients")


def _check_precision(loss_class, loss, kwargs, y_true, y_pred):
    half = {name: ops.cast(y_pred, name) for name in ("float16", "bfloat16")}
    for name, predictions in half.items():
        exact = ops.convert_to_numpy(loss(y_true, ops.cast(predictions, "float32")))
        value = loss(y_true, predictions)
        _require(keras.backend.standardize_dtype(value.dtype) == "float32", f"{name} predictions give a float32 value")
        _require(np.array_equal(ops.convert_to_numpy(value), exact), f"{name} predictions are computed in float32")
    exact = ops.convert_to_numpy(loss(y_true, y_pred))
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_float16")
        mixed = ops.convert_to_numpy(loss_class(**kwargs)(y_true, y_pred))
    finally:
        keras.config.set_dtype_policy(policy)
    _require(np.array_equal(mixed, exact), "the policy mixed_float16 changes nothing")
    if "dtype" in inspect.signature(loss_class.__init__).parameters:
        forced = ops.convert_to_numpy(loss_class(**{**kwargs, "dtype": "float16"})(y_true, y_pred))
        _require(np.array_equal(forced, exact), "dtype='float16' is computed in float32")


def _compiled(loss, features):
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        signature = [tf.TensorSpec([None], "int32"), tf.TensorSpec([None, features], "float32")]
        return {
            name: tf.function(loss, input_signature=signature, jit_compile=xla)
            for name, xla in (("tf.function", False), ("XLA", True))
        }
    import jax

    return {"jax.jit": jax.jit(loss)}


def _check_training(loss, y_true, y_pred):
    inputs = keras.Input(y_pred.shape[1:])
    start = keras.initializers.Identity()
    model = keras.Model(inputs, keras.layers.Dense(y_pred.shape[-1], kernel_initializer=start)(inputs))
    model.compile(optimizer=keras.optimizers.SGD(1e-3), loss=loss, jit_compile=False)
    losses = model.fit(y_pred, y_true, batch_size=len(y_true), epochs=2, shuffle=False, verbose=0).history["loss"]
    _require(np.isfinite(losses).all() and losses[1] != losses[0], f"a model trains on it; losses were {losses}")
