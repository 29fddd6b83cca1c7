"""The contract that every layer keeps."""

import functools
import inspect
import json
import pathlib
import tempfile

import keras
import numpy as np
from keras import ops, tree

from kreid.testing._common import require, value_and_gradients

_require = functools.partial(require, "A layer")

_BASE_KEYS = {"name", "trainable", "dtype"}
_LOOSE = {"mixed_bfloat16": 0.05, "mixed_float16": 0.01}


def check_layer(layer_class, kwargs, inputs, *, masked=True, attention=False, saved=True, any_length=True):
    """Checks that a layer keeps kreid's contract; for layers of one's own too.

    What is checked:

    - the keys of the config are the arguments of the constructor, and the twin revived from JSON, given the same
      weights, gives equal outputs;
    - (masked) what padding holds, NaN included, changes no output and no gradient; a padded tracklet in a batch gives
      what it gives alone and unpadded; a tracklet with no real frame gives finite output;
    - (masked, and `call` takes `training`) in training too, NaN in padding leaves outputs, added losses and gradients
      finite, and padding gets no gradient from outputs and added losses together;
    - every trainable weight gets a gradient that is not zero (seed the draw of the weights first, with
      `keras.utils.set_random_seed`: the few units of a small ReLU layer may all be dead by chance);
    - batch and (any_length) length may be unknown, the symbolic shapes and dtypes are the real ones, and (attention)
      the form that returns attention is symbolic too;
    - under `mixed_bfloat16` and `mixed_float16` outputs are finite and near the float32 ones;
    - a model with the layer saves, loads and (TensorFlow) exports, with equal outputs.

    Args:
        layer_class: subclass of `keras.layers.Layer`.
        kwargs: dict of constructor arguments, preferably not the defaults.
        inputs: NumPy array `(batch, frames, ...)` of at least 3 tracklets and 3 frames, or a tuple of arrays for a
            layer with several inputs.
        masked: the layer takes `mask`.
        attention: the layer takes `return_attention`.
        saved: the layer can stand in a model of its own.
        any_length: the second axis may have any length, as frames have; `False` for a layer made for one.

    Returns:
        The output, as NumPy.

    Raises:
        AssertionError: with a sentence on the first point that fails.

    Example:

    >>> maps = np.random.default_rng(0).random((3, 4, 4, 2, 8), "float32")
    >>> layer = kreid.layers.SpatialTemporalAttention
    >>> kreid.testing.check_layer(layer, {"num_stripes": 2}, maps, attention=True).shape
    (3, 4, 2, 16)
    """
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    layer = layer_class(**kwargs)
    expected = _numpy(layer(*arguments))
    _require(_finite(expected), "outputs are finite")
    _check_config(layer_class, layer, kwargs, arguments, expected)
    if masked:
        _check_masks(layer, inputs, attention, any_length)
        if "training" in inspect.signature(layer_class.call).parameters:
            _check_training(layer_class, layer, kwargs, inputs)
    _check_weights(layer, arguments)
    _check_symbolic(layer, arguments, expected, attention, any_length)
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
    for key, given in kwargs.items():
        if isinstance(given, (int, float, str)):
            _require(config[key] == given, f"the config keeps {key}={given!r}, not {config[key]!r}")
    written = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    twin = keras.saving.deserialize_keras_object(written)
    twin(*arguments)
    twin.set_weights(layer.get_weights())
    _require(_equal(_numpy(twin(*arguments)), expected), "the layer revived from its config gives equal outputs")


def _check_masks(layer, inputs, attention, any_length):
    lengths, mask = _some_padded(inputs)
    extra = {"return_attention": True} if attention else {}
    filled = functools.partial(_filled, inputs, mask)
    clean = _numpy(layer(filled(0), mask=mask, **extra))
    _require(_finite(clean), "a tracklet with no real frame gives finite output")
    for value in (np.nan, 1e4):
        _require(_equal(_numpy(layer(filled(value), mask=mask, **extra)), clean), f"padding of {value} changes nothing")
        gradient = _gradients(lambda x: layer(x, mask=mask), filled(value), layer)[0]
        _require(np.isfinite(gradient).all(), f"padding of {value} leaves the gradients finite")
        _require(not gradient[~mask].any(), "padding gets no gradient")
    whole = _numpy(layer(filled(0), mask=mask))
    for row, length in enumerate(lengths):
        if length == inputs.shape[1] or (length and any_length):
            alone = _numpy(layer(inputs[row : row + 1, :length]))
            pairs = zip(tree.flatten(alone), tree.flatten(whole), strict=True)
            same = all(_near(one[0], _cut(padded[row], one[0]), 1e-5) for one, padded in pairs)
            _require(same, "a tracklet gives the same alone, unpadded, as padded in a batch")


def _check_training(layer_class, layer, kwargs, inputs):
    # A twin, so that the losses added here do not stay with the layer.
    twin = layer_class(**kwargs)
    mask = _some_padded(inputs)[1]
    twin(inputs, mask=mask)
    twin.set_weights(layer.get_weights())

    def outputs_and_losses(x):
        before = twin.losses
        outputs = twin(x, mask=mask, training=True)
        # Added losses pile up; layers that draw draw anew, so that only finiteness and gradients can be compared.
        return outputs, [loss for loss in twin.losses if not any(loss is old for old in before)]

    for value in (np.nan, 1e4):
        where = f"in training, padding of {value}"
        padded = _filled(inputs, mask, value)
        outputs, losses = _numpy(outputs_and_losses(padded))
        _require(_finite(outputs), f"{where} leaves the outputs finite")
        _require(_finite(losses), f"{where} leaves the added losses finite")
        by_input, by_weights = _gradients(outputs_and_losses, padded, twin)
        gradients = [by_input, *(gradient for gradient in by_weights if gradient is not None)]
        _require(_finite(gradients), f"{where} leaves the gradients finite")
        _require(not by_input[~mask].any(), f"{where} gets no gradient, from added losses neither")


def _some_padded(inputs):
    """Lengths and the mask for them: among the first three one whole tracklet, one empty, one of a single frame."""
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
    gradients = _gradients(lambda x: layer(x, *arguments[1:]), arguments[0], layer)[1]
    for variable, gradient in zip(layer.trainable_variables, gradients, strict=True):
        _require(gradient is not None and np.abs(gradient).max() > 0, f"the weight {variable.path} gets a gradient")


def _check_symbolic(layer, arguments, expected, attention, any_length):
    symbolic = [_symbolic(array, any_length) for array in arguments]
    forms = [{}, {"return_attention": True}] if attention else [{}]
    for extra in forms:
        real = _numpy(layer(*arguments, **extra))
        spec = layer(*symbolic, **extra)
        tree.assert_same_structure(spec, real)
        for s, r in zip(tree.flatten(spec), tree.flatten(real), strict=True):
            fits = len(s.shape) == r.ndim and all(n in (None, m) for n, m in zip(s.shape, r.shape, strict=True))
            _require(fits, f"the symbolic shape {s.shape} is that of the real output, {r.shape}")
            _require(s.dtype == str(r.dtype), f"the symbolic dtype {s.dtype} is that of the real output, {r.dtype}")
    model = keras.Model(symbolic, layer(*symbolic))
    _require(_close(_numpy(model(list(arguments))), expected, 1e-5), "in a model the outputs are the same")
    if any_length:
        shorter = [a[1:, :2] if a.ndim > 1 else np.minimum(a[1:], 2) for a in arguments]
    else:
        shorter = [a[1:] for a in arguments]
    _require(
        _close(_numpy(model(shorter)), _numpy(layer(*shorter)), 1e-5), "another batch and length go through the model"
    )


def _check_policies(layer_class, layer, kwargs, arguments, expected):
    for policy, tolerance in _LOOSE.items():
        twin = layer_class(**kwargs, dtype=policy)
        twin(*arguments)
        twin.set_weights(layer.get_weights())
        outputs = _numpy(
            tree.map_structure(lambda x: x if x.dtype == bool else ops.cast(x, "float32"), twin(*arguments))
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
        _require(_close(_numpy(loaded(list(arguments))), expected, 1e-5), "a saved model gives equal outputs")
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            model.export(pathlib.Path(folder) / "export", verbose=False)
            served = tf.saved_model.load(str(pathlib.Path(folder) / "export"))
            outputs = _numpy(served.serve([tf.convert_to_tensor(array) for array in arguments]))
            _require(_close(outputs, expected, 1e-5), "the exported graph gives equal outputs")


def _symbolic(array, any_length):
    shape = (None if any_length else array.shape[1], *array.shape[2:]) if array.ndim > 1 else ()
    return keras.Input(shape, dtype=str(array.dtype))


def _gradients(function, inputs, layer):
    """Gradients of a fixed random weighting of all float outputs, for the inputs and the layer's weights.

    Not of their sum, which may be constant: softmax weights sum to 1.
    """
    rng = np.random.default_rng(0)
    outputs = [x for x in tree.flatten(function(inputs)) if "float" in keras.backend.standardize_dtype(x.dtype)]
    weights = [rng.normal(size=tuple(x.shape)).astype("float32") for x in outputs]

    def weighted(x):
        floats = [y for y in tree.flatten(function(x)) if "float" in keras.backend.standardize_dtype(y.dtype)]
        return sum(ops.sum(ops.cast(y, "float32") * w) for y, w in zip(floats, weights, strict=True))

    return value_and_gradients(weighted, inputs, layer.trainable_variables)[1:]


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
    """A padded output cut to the shape it has alone; the same where it has no frame axis."""
    return padded[: len(alone)] if padded.ndim == alone.ndim and padded.ndim else padded
