"""The fingerprint of a model: equal where the embeddings are, so that vectors of two models are never compared."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

# Keys of configs that change no embedding: names differ from process to process, the rest is of training or of files.
_UNRELATED = {"build_config", "compile_config", "module", "name", "num_identities", "passport", "seed", "trainable"}
_UNRELATED_ENDINGS = ("_initializer", "_regularizer", "_constraint")
# Keys whose values name layers.
_REFERENCES = {"keras_history", "input_layers", "output_layers", "stages"}


def fingerprint(model: Any) -> str:
    """Return the SHA-256 of all that embeddings depend on: the embedder's weights and the model's settings.

    Two models with one fingerprint give the same embeddings, up to rounding, in any process and on any backend of
    Keras. Any change of a weight gives another one, and so do the system, the image size, the choice of test frames,
    the pooling, the metric and the precision. The classifier and the passport, which change no embedding, do not count,
    nor do names of layers.

    Cards of exports, the passports in them and `kreid.gallery.TrackletEmbeddings` carry it.

    Args:
        model: a model of `kreid.models`, or any object with `embedder`, `image_size`, `metric` and `embedding_dim`; an
            opened export has its own attribute `fingerprint`, which is returned.

    Returns:
        A str of 64 hexadecimal digits.

    Example:

    >>> backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32))
    >>> model = kreid.models.Baseline(backbone, num_identities=10)
    >>> before = kreid.models.fingerprint(model)
    >>> model.embedder.set_weights([2 * weight for weight in model.embedder.get_weights()])
    >>> len(before), kreid.models.fingerprint(model) == before
    (64, False)
    """
    if isinstance(known := getattr(model, "fingerprint", None), str):
        return known
    import keras

    config = model.get_config() if hasattr(model, "get_config") else {}
    numbers: dict[str, int] = {}
    for name in _layer_names(config):
        numbers.setdefault(name, len(numbers))
    settings = [
        keras.saving.get_registered_name(type(model)),
        [int(size) for size in model.image_size],
        str(model.metric),
        int(model.embedding_dim),
        _related(config, numbers),
    ]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for weight in model.embedder.weights:
        values = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        digest.update(f"{values.dtype.name} {list(values.shape)}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def _layer_names(config: Any) -> Iterator[str]:
    """Yield the names of the layers of all functional networks in a config, in their order."""
    if isinstance(config, dict):
        layers = config.get("layers")
        if isinstance(layers, list):
            yield from (layer["name"] for layer in layers if isinstance(layer, dict) and "name" in layer)
        for value in config.values():
            yield from _layer_names(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from _layer_names(value)


def _related(value: Any, numbers: dict[str, int], names_layers: bool = False) -> Any:
    """Return a config without what changes no embedding, and with numbers in place of the names of layers."""
    if isinstance(value, dict):
        if str(value.get("class_name")).endswith("DTypePolicy"):
            return value  # Its name is the precision.
        return {
            key: _related(entry, numbers, key in _REFERENCES)
            for key, entry in value.items()
            if key not in _UNRELATED and not key.endswith(_UNRELATED_ENDINGS)
        }
    if isinstance(value, (list, tuple)):
        return [_related(entry, numbers, names_layers) for entry in value]
    return numbers.get(value, value) if names_layers and isinstance(value, str) else value
