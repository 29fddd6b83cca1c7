"""The contract of layers."""

import functools
import inspect
import json
import pathlib
import tempfile
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from kreid.testing._common import compiled, gradient_function, require

_require = functools.partial(require, "A layer")

_BASE_KEYS = {"name", "trainable", "dtype"}
_LOOSE = {"mixed_bfloat16": 0.05, "mixed_float16": 0.01}


def check_layer(
    layer_class: type[keras.layers.Layer],
    kwargs: dict[str, Any],
    inputs: np.ndarray | tuple[np.ndarray, ...],
    *,
    masked: bool = True,
    attention: bool = False,
    saved: bool = True,
    any_length: bool = True,
) -> Any:
    """Check that a layer fulfils kreid's contract, of kreid's layers or your own.

    The checks:

    - the keys of the config are the arguments of the constructor, `dtype` may be a policy object, and the layer
      revived from JSON gives equal outputs with the same weights;
    - (masked) the values of padding, NaN included, change no output and no gradient; a tracklet gives the same output
      alone, unpadded, as padded in a batch; a tracklet without a real frame gives finite output; a mask of another
      rank or length raises;
    - (masked, and `call` takes `training`) in training too, NaN in padding leaves outputs, added losses and gradients
      finite, and padding gets no gradient from outputs and added losses;
    - every trainable weight gets a gradient that is not zero (first fix the random weights with
      `keras.utils.set_random_seed`: all units of a small ReLU layer may be dead by chance);
    - batch and (any_length) length may be unknown; symbolic shapes and dtypes equal the real ones, and (attention) so
      do those of the attention;
    - under `mixed_bfloat16` and `mixed_float16` outputs are finite and close to float32's;
    - a model with the layer saves, loads and (TensorFlow) exports, with equal outputs.

    Args:
        layer_class: subclass of `keras.layers.Layer`.
        kwargs: dict of constructor arguments, preferably not the defaults.
        inputs: NumPy array `(batch, frames, ...)` of at least 3 tracklets and 3 frames, or a tuple of arrays for a
            layer with several inputs.
        masked: whether the layer takes `mask`.
        attention: whether the layer takes `return_attention`.
        saved: whether the layer can be the only layer of a model.
        any_length: whether the second axis may have any length.

    Returns:
        The output, a NumPy array or a nest of arrays.

    Raises:
        AssertionError: if a check fails, with a sentence on it.

    Example:

    >>> maps = np.random.default_rng(0).random((3, 4, 4, 2, 8), "float32")
    >>> layer = kreid.layers.SpatialTemporalAttention
    >>> kreid.testing.check_layer(layer, {"num_stripes": 2}, maps, attention=True).shape
    (3, 4, 2, 16)
    """
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    layer = _built(layer_class(**kwargs), arguments)
    calls = [_compiled(layer, form) for form in ((False, True) if attention else (False,))]
    expected = _numpy(calls[0](*arguments))
    _require(_finite(expected), "outputs are finite")
    _check_config(layer_class, layer, kwargs, arguments, expected)
    if masked:
        _check_masks(layer, inputs, calls, any_length)
        _check_refused_masks(layer, inputs)
        if "training" in inspect.signature(layer_class.call).parameters:
            _check_training(layer_class, layer, kwargs, inputs)
    _check_weights(layer, arguments)
    _check_symbolic(layer, arguments, expected, calls, any_length)
    _check_policies(layer_class, layer, kwargs, arguments, expected)
    if saved:
        _check_saved(layer, arguments, expected, any_length)
    return expected


def _check_config(layer_class, layer, kwargs, arguments, expected):
    parameters = inspect.signature(layer_class.__init__).parameters.values()
    named = {p.name for p in parameters if p.kind is not p.VAR_KEYWORD} - {"self"}
    config = layer.get_config()
    _require(
        set(config) - _BASE_KEYS == named - _BASE_KEYS,
        f"the config names every argument of the constructor: {sorted((set(config) ^ named) - _BASE_KEYS)} differ",
    )
    for key, value in kwargs.items():
        if isinstance(value, (int, float, str)):
            _require(config[key] == value, f"the config keeps {key}={value!r}, not {config[key]!r}")
    written = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    twin = keras.saving.deserialize_keras_object(written)
    _built(twin, arguments).set_weights(layer.get_weights())
    _require(
        _equal(_numpy(_compiled(twin)(*arguments)), expected), "the layer revived from its config gives equal outputs"
    )


def _check_refused_masks(layer, inputs):
    batch, frames = inputs.shape[:2]
    cases = {
        "lengths instead of a mask": np.ones(batch, "int32"),
        "a mask that is one frame too long": np.ones((batch, frames + 1), bool),
        "a mask with one axis too many": np.ones((batch, frames, 1), bool),
        "a mask of one frame": np.ones((batch, 1), bool),
    }
    for case, mask in cases.items():
        try:
            layer(inputs, mask=mask)
        except ValueError as error:
            message = str(error)
        else:
            message = ""
        is_named = "mask" in message and str(mask.shape) in message
        _require(is_named, f"{case} raises ValueError that names the mask and its shape")


def _check_masks(layer, inputs, calls, any_length):
    lengths, mask = _some_padded(inputs)
    filled = functools.partial(_filled, inputs, mask)
    clean = _numpy(calls[-1](filled(0), mask=mask))
    _require(_finite(clean), "a tracklet with no real frame gives finite output")
    gradients = _gradients(lambda x: layer(x, mask=mask), layer)
    for value in (np.nan, 1e4):
        _require(_equal(_numpy(calls[-1](filled(value), mask=mask)), clean), f"padding of {value} changes nothing")
        gradient = gradients(filled(value))[0]
        _require(np.isfinite(gradient).all(), f"padding of {value} leaves the gradients finite")
        _require(not gradient[~mask].any(), "padding gets no gradient")
    whole = _numpy(calls[0](filled(0), mask=mask))
    for row, length in enumerate(lengths):
        if length == inputs.shape[1] or (length and any_length):
            alone = _numpy(calls[0](inputs[row : row + 1, :length]))
            pairs = zip(tree.flatten(alone), tree.flatten(whole), strict=True)
            same = all(_near(one[0], _cut(padded[row], one[0]), 1e-5) for one, padded in pairs)
            _require(same, "a tracklet gives the same alone, unpadded, as padded in a batch")


def _check_training(layer_class, layer, kwargs, inputs):
    # On a twin, so that the layer does not keep these added losses.
    twin = _built(layer_class(**kwargs), (inputs,))
    mask = _some_padded(inputs)[1]
    twin.set_weights(layer.get_weights())

    def outputs_and_losses(x):
        before = twin.losses
        outputs = twin(x, mask=mask, training=True)
        # Added losses accumulate. Random layers draw new numbers, so only finiteness and gradients can be checked.
        return outputs, [loss for loss in twin.losses if not any(loss is old for old in before)]

    call, gradients = compiled(outputs_and_losses, twin.variables), _gradients(outputs_and_losses, twin)
    for value in (np.nan, 1e4):
        where = f"in training, padding of {value}"
        padded = _filled(inputs, mask, value)
        outputs, losses = _numpy(call(padded))
        _require(_finite(outputs), f"{where} leaves the outputs finite")
        _require(_finite(losses), f"{where} leaves the added losses finite")
        by_input, by_weights = gradients(padded)
        given = [by_input, *(gradient for gradient in by_weights if gradient is not None)]
        _require(_finite(given), f"{where} leaves the gradients finite")
        _require(not by_input[~mask].any(), f"{where} gets no gradient, also not from added losses")


def _some_padded(inputs):
    """Return lengths and their mask: the first three tracklets are whole, empty and of a single frame."""
    batch, frames = inputs.shape[:2]
    lengths = np.arange(batch) % (frames + 1)
    lengths[:3] = (frames, 0, 1)
    return lengths, np.arange(frames) < lengths[:, None]


def _filled(inputs, mask, value):
    real = mask.reshape(*mask.shape, *(1,) * (inputs.ndim - 2))
    return np.where(real, inputs, np.asarray(value, inputs.dtype))


def _check_weights(layer, arguments):
    if not layer.trainable_variables:
        return
    gradients = _gradients(lambda x: layer(x, *arguments[1:]), layer)(arguments[0])[1]
    for variable, gradient in zip(layer.trainable_variables, gradients, strict=True):
        _require(gradient is not None and np.abs(gradient).max() > 0, f"the weight {variable.path} gets a gradient")


def _check_symbolic(layer, arguments, expected, calls, any_length):
    symbolic = [_symbolic(array, any_length) for array in arguments]
    for form, call in enumerate(calls):
        real = _numpy(call(*arguments))
        spec = layer(*symbolic, **_extra(form))
        tree.assert_same_structure(spec, real)
        for s, r in zip(tree.flatten(spec), tree.flatten(real), strict=True):
            fits = len(s.shape) == r.ndim and all(n in (None, m) for n, m in zip(s.shape, r.shape, strict=True))
            _require(fits, f"the symbolic shape {s.shape} is that of the real output, {r.shape}")
            _require(s.dtype == str(r.dtype), f"the symbolic dtype {s.dtype} is that of the real output, {r.dtype}")
    model = keras.Model(symbolic, layer(*symbolic))
    call = _compiled(model)
    _require(_close(_numpy(call(list(arguments))), expected, 1e-5), "in a model the outputs are the same")
    if any_length:
        shorter = [a[1:, :2] if a.ndim > 1 else np.minimum(a[1:], 2) for a in arguments]
    else:
        shorter = [a[1:] for a in arguments]
    _require(
        _close(_numpy(call(shorter)), _numpy(calls[0](*shorter)), 1e-5), "another batch and length go through the model"
    )


def _check_policies(layer_class, layer, kwargs, arguments, expected):
    config = layer_class(**kwargs, dtype=keras.DTypePolicy("mixed_bfloat16")).get_config()
    revived = layer_class.from_config(config).dtype_policy.name
    _require(revived == "mixed_bfloat16", "the config keeps a policy object given as dtype")
    for policy, tolerance in _LOOSE.items():
        twin = _built(layer_class(**kwargs, dtype=policy), arguments)
        twin.set_weights(layer.get_weights())
        outputs = tree.map_structure(
            lambda x: x if x.dtype == bool else x.astype("float32"), _numpy(_compiled(twin)(*arguments))
        )
        floats = tree.map_structure(lambda x: x if x.dtype == bool else x.astype("float32"), expected)
        _require(_finite(outputs), f"outputs are finite under {policy}")
        scale = max(float(np.abs(x).max()) for x in tree.flatten(floats))
        _require(_close(outputs, floats, tolerance * max(scale, 1e-6)), f"outputs under {policy} are near float32's")


def _check_saved(layer, arguments, expected, any_length):
    symbolic = [_symbolic(array, any_length) for array in arguments]
    model = keras.Model(symbolic, layer(*symbolic))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
        _require(
            _close(_numpy(_compiled(loaded)(list(arguments))), expected, 1e-5), "a saved model gives equal outputs"
        )
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            model.export(pathlib.Path(folder) / "export", verbose=False)
            served = tf.saved_model.load(str(pathlib.Path(folder) / "export"))
            outputs = _numpy(served.serve([tf.convert_to_tensor(array) for array in arguments]))
            _require(_close(outputs, expected, 1e-5), "the exported graph gives equal outputs")


def _symbolic(array, any_length):
    shape = (None if any_length else array.shape[1], *array.shape[2:]) if array.ndim > 1 else ()
    return keras.Input(shape, dtype=str(array.dtype))


def _gradients(function, layer):
    """Return a callable of inputs: the gradients of a random weighted sum of all float outputs, for the inputs and the
    layer's weights.

    The weights are random because a plain sum may be constant, as for the outputs of a softmax.
    """

    def weighted(x):
        rng = np.random.default_rng(0)
        floats = [y for y in tree.flatten(function(x)) if "float" in keras.backend.standardize_dtype(y.dtype)]
        return sum(ops.sum(ops.cast(y, "float32") * rng.normal(size=y.shape).astype("float32")) for y in floats)

    gradients = gradient_function(weighted, layer.trainable_variables, jit=True)
    return lambda inputs: gradients(inputs)[1:]


def _built(layer, arguments):
    """Build a layer for the shapes of arrays, without a call on them."""
    layer(*(keras.KerasTensor(array.shape, dtype=str(array.dtype)) for array in arguments))
    return layer


def _compiled(layer, attention=False):
    return compiled(functools.partial(layer, **_extra(attention)), layer.variables)


def _extra(attention):
    return {"return_attention": True} if attention else {}


def _numpy(outputs):
    return tree.map_structure(ops.convert_to_numpy, outputs)


def _finite(outputs):
    return all(np.isfinite(x).all() for x in tree.flatten(outputs))


def _equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(tree.flatten(a), tree.flatten(b), strict=True))


def _close(a, b, tolerance):
    return all(_near(x, y, tolerance) for x, y in zip(tree.flatten(a), tree.flatten(b), strict=True))


def _near(a, b, tolerance):
    return a.shape == b.shape and np.allclose(a, b, rtol=tolerance, atol=tolerance)


def _cut(padded, alone):
    """Cut a padded output to the length of the unpadded one; unchanged without a frame axis."""
    return padded[: len(alone)] if padded.ndim == alone.ndim and padded.ndim else padded
