"""Networks of Keras 2 in kreid, and kreid's models in Keras 2."""

import functools
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kreid.addons.package import check_tf_keras
from kreid.backbones import Conversion, KerasBackbone, StagedBackbone, from_keras, load_checkpoint
from kreid.backbones.checkpoints import load_tensors, starting_weights
from kreid.backbones.keras_files import leaf_layers, tensors_of


def load_tf_keras_weights(
    backbone: StagedBackbone,
    weights: Any,
    skip: Sequence[str] = (),
    licence: str | None = None,
    layout: str | None = None,
) -> Conversion:
    """Load the weights of a Keras 2 network into a backbone of the same architecture, completely or not at all.

    The network may be part of a larger model: layers are found by their names, in models inside it too. A file needs no
    tf_keras.

    Args:
        backbone: a built `StagedBackbone`, changed in place.
        weights: a `tf_keras` model, or a file of Keras 2 (`.h5`, of a model or of its weights).
        skip: names of further tensors to leave out, see `kreid.backbones.load_checkpoint`.
        licence: of the weights, for the passport.
        layout: see `kreid.backbones.load_checkpoint`.

    Returns:
        A `Conversion`, which says where each tensor went (`matched`) and which were left out.

    Raises:
        ValueError: as `kreid.backbones.load_checkpoint` does.
        ImportError: for a model without tf_keras.

    Example:

        network = tf_keras.applications.MobileNetV2((256, 128, 3), include_top=False, weights="imagenet")
        backbone = kreid.backbones.build("mobilenet_v2_keras", image_size=(256, 128))
        print(kreid.addons.load_tf_keras_weights(backbone, network).matched)
    """
    if isinstance(weights, (str, os.PathLike)):
        return load_checkpoint(backbone, weights, skip, licence, layout)
    _check_model("weights", weights)
    origin = f"weights of the tf_keras model {weights.name!r}"
    layout, matched, left_out = load_tensors(backbone, tensors_of(weights), origin, skip, layout)
    conversion = Conversion(
        layout, len(matched), left_out, f"tf_keras:{weights.name}", None, backbone.preprocessing, licence, matched
    )
    backbone.passport = conversion.passport
    return conversion


def from_tf_keras(
    model: Any,
    stages: Sequence[str],
    last_stride: int = 2,
    preprocessing: str | None = None,
    branches: Sequence[int] = (),
    licence: str | None = None,
    name: str = "keras_backbone",
) -> KerasBackbone:
    """Make a backbone from a functional Keras 2 network.

    The network is rebuilt in Keras 3 from its config, with its weights. All of its layers must be Keras's own.

    Args:
        model: a functional `tf_keras` model, see `kreid.backbones.from_keras`.
        stages: names of the four layers that end the stages.
        last_stride: 1 or 2, see `kreid.backbones.from_keras`.
        preprocessing: see `kreid.backbones.from_keras`.
        branches: see `kreid.backbones.Backbone`.
        licence: of the weights, for the passport.
        name: of the backbone.

    Returns:
        A `kreid.backbones.KerasBackbone`.

    Raises:
        ValueError: if Keras 3 cannot rebuild the network, or as `kreid.backbones.from_keras` does.
        ImportError: without tf_keras.

    Example:

        network = tf_keras.applications.MobileNetV2((256, 128, 3), include_top=False)
        ends = ["block_2_add", "block_5_add", "block_12_add", "out_relu"]
        model = kreid.models.STA(kreid.addons.from_tf_keras(network, ends, last_stride=1), num_identities=625)
    """
    _check_model("model", model)
    copy = _rebuilt(model)
    for layer, source in zip(leaf_layers(copy), leaf_layers(model), strict=True):
        layer.set_weights(source.get_weights())
    backbone = from_keras(copy, stages, last_stride, preprocessing, branches, name=name)
    backbone.passport = starting_weights(f"tf_keras:{model.name}", "tf_keras", backbone.preprocessing, licence=licence)
    return backbone


def saved_model_layer(path: str | os.PathLike[str], signature: str = "embed_padded", name: str | None = None) -> Any:
    """Return a `tf_keras` layer that runs a signature of a kreid export, for models and code of Keras 2.

    Its input is a dict of the signature's inputs, its output a dict of the signature's outputs, such as `embedding`.
    The weights are not trained. A model with this layer keeps the export's path in its config.

    Args:
        path: a version of an export, such as `runs/sta_mars/export/1`, or the folder of all versions for the newest.
        signature: see `kreid.serving.export_model`.
        name: of the layer.

    Returns:
        A `tf_keras.layers.Layer`.

    Raises:
        ValueError: if there is no export, or no such signature.
        ImportError: without tf_keras.

    Example:

        frames = tf_keras.Input((None, 256, 128, 3), dtype="uint8")
        lengths = tf_keras.Input((), dtype="int32")
        embedder = kreid.addons.saved_model_layer("runs/sta_mars/export")
        embedding = embedder({"frames": frames, "lengths": lengths})["embedding"]
        model = tf_keras.Model([frames, lengths], tf_keras.layers.Dense(2)(embedding))
    """
    check_tf_keras()
    return _layer_class()(str(_newest(pathlib.Path(path))), signature, name=name)


def _check_model(argument: str, model: Any) -> None:
    if isinstance(model, keras.Model):
        raise ValueError(
            "This is a model of Keras 3; use kreid.backbones.from_keras, or save it and load the file. "
            f"Received: {argument}={model!r}"
        )
    check_tf_keras()
    import tf_keras

    if not isinstance(model, tf_keras.Model):
        raise ValueError(f"A network of Keras 2 is a tf_keras.Model. Received: {argument}={model!r}")


def _rebuilt(model: Any) -> keras.Model:
    """Return a model of Keras 3 by the config of one of Keras 2."""
    try:
        config = _cleaned(json.loads(model.to_json()))
        return keras.models.model_from_json(json.dumps(config))
    except (ValueError, TypeError, KeyError, NotImplementedError, AttributeError) as error:
        reason = next(iter(str(error).rpartition("Exception encountered: ")[2].splitlines()), type(error).__name__)
        raise ValueError(
            f"Keras 3 cannot rebuild this network of Keras 2 ({reason}); it must be functional and have Keras's own "
            f"layers alone. Received: model={model.name!r}"
        ) from error


def _cleaned(config: Any) -> Any:
    """Return a config in the form that Keras 3 takes, where it differs for functional models and Keras's layers."""
    if isinstance(config, dict):
        cleaned = {key: _cleaned(value) for key, value in config.items()}
        if cleaned.get("class_name") == "Functional":
            cleaned["module"] = "keras.src.models.functional"
        if cleaned.get("class_name") == "DepthwiseConv2D":
            cleaned["config"].pop("groups", None)
        if cleaned.get("class_name") == "BatchNormalization":
            (cleaned["config"]["axis"],) = np.ravel(cleaned["config"]["axis"]).tolist()
        return cleaned
    return [_cleaned(value) for value in config] if isinstance(config, list) else config


def _newest(path: pathlib.Path) -> pathlib.Path:
    """Return the folder of a SavedModel, the highest version of a folder of versions."""
    folders = [file.parent for file in path.glob("*/saved_model.pb") if file.parent.name.isdecimal()]
    newest = max(folders, key=lambda folder: int(folder.name), default=None)
    found = path if (path / "saved_model.pb").is_file() else newest
    if found is None:
        raise ValueError(f"There is no export in this folder; make one with kreid export. Received: path={str(path)!r}")
    return found


@functools.cache
def _layer_class() -> type:
    """Return the layer's class, which exists with tf_keras alone."""
    import tensorflow as tf
    import tf_keras

    @tf_keras.utils.register_keras_serializable(package="kreid")
    class SavedModelLayer(tf_keras.layers.Layer):
        """Runs a signature of a SavedModel."""

        def __init__(self, path: str, signature: str, **kwargs: Any) -> None:
            super().__init__(trainable=False, **{key: value for key, value in kwargs.items() if key != "trainable"})
            self.path = path
            self.signature = signature
            self._saved_model = tf.saved_model.load(path)
            signatures = self._saved_model.signatures
            if signature not in signatures:
                raise ValueError(
                    f"The export has the signatures {', '.join(sorted(signatures))}. Received: signature={signature!r}"
                )
            self._function = signatures[signature]

        def call(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
            return self._function(**inputs)

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "path": self.path, "signature": self.signature}

    return SavedModelLayer
