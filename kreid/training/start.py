"""Start a phase from the weights of another model."""

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from kreid._files import file_digest
from kreid.backbones import Backbone
from kreid.loading import load_model
from kreid.models import TrackletModel

# Before the names of the embedding layer's weights.
_EMBEDDING = "embedding_layer/"


def start_from(model: TrackletModel, path: str | os.PathLike[str], layers: str = "matching") -> list[str]:
    """Copy the weights of a saved model into another, of any system, with the same backbone.

    Batch-norm statistics that a backbone keeps per branch all start from the saved ones. The model's passport names the
    file, and its starting weights become the saved model's. Its frames are scaled as the saved model's backbone expects
    them from now on.

    Args:
        model: a model of `kreid.models`, changed in place.
        path: a `.keras` file of a model of `kreid.models`.
        layers: `"backbone"`, or `"matching"` for every weight of equal path and shape: heads too, where both models
            have them, and the `embedding_layer`, whatever each system calls it. A classifier matches if both have the
            same number of persons; keep data and holdout the same, or its rows are of other persons. A layer that
            reads n vectors beside each other where the saved one reads one, as STA's Dense layer after its fusion of
            two maps or GLTR's classifier does, starts as the saved layer on the mean of the n: a Dense kernel with an
            n-th of the saved kernel for each, the neck's normalisation with the saved one for each. Classifier and
            neck do so only if the embedding layer is copied.

    Returns:
        The paths of the weights outside the backbone that kept their own values.

    Raises:
        ValueError: as `kreid.load_model` raises it, or if the file's backbone is another or has weights that are NaN or
            infinite.
    """
    source = load_model(path, compile=False)
    broken = [weight.path for weight in source.weights if not np.isfinite(ops.convert_to_numpy(weight)).all()]
    if broken:
        raise ValueError(
            f"{len(broken)} weights of the model to start from, such as {broken[0]}, have values that are NaN or "
            f"infinite; start from another one. Received: init={str(path)!r}"
        )
    backbone = model.backbone
    unmatched = _copy(_by_path(_own_weights(backbone, source.backbone.branches)), _by_path(source.backbone.weights))
    if unmatched:
        raise ValueError(
            f"The backbone to start from is another one: {len(unmatched)} weights do not match, such as "
            f"{unmatched[0]}; give both models the same backbone and backbone_width. Received: init={str(path)!r}"
        )
    if backbone.branches != source.backbone.branches:
        backbone.copy_statistics()
    backbone.passport = source.backbone.passport
    backbone.preprocessing = source.backbone.preprocessing
    model.rescale_frames()
    origin = {
        "file": pathlib.Path(path).name,
        "sha256": file_digest(path),
        "trained_on": source.passport.trained_on,
        "started_from": source.passport.started_from,
    }
    model.passport = dataclasses.replace(model.passport, started_from=origin)
    return _copy(_heads(model), _heads(source) if layers == "matching" else {})


def _own_weights(backbone: Backbone, branches: tuple[int, ...]) -> list[keras.Variable]:
    """Return the backbone's weights; if the source has other branches, without the branches' own statistics."""
    own = () if backbone.branches == branches else backbone.branch_statistics()
    left_out = {id(weight) for weight in own}
    return [weight for weight in backbone.weights if id(weight) not in left_out]


def _by_path(weights: Iterable[keras.Variable]) -> dict[str, keras.Variable]:
    return {weight.path: weight for weight in weights}


def _heads(model: TrackletModel) -> dict[str, keras.Variable]:
    """Return the weights outside the backbone by path, the embedding layer's by the same names in all systems."""
    inside = {id(weight) for weight in model.backbone.weights}
    heads = {id(weight): (weight.path, weight) for weight in model.weights if id(weight) not in inside}
    if model.embedding_layer is not None:
        for weight in model.embedding_layer.weights:
            heads[id(weight)] = (f"{_EMBEDDING}{weight.name}", weight)
    return dict(heads.values())


def _copy(weights: Mapping[str, keras.Variable], others: Mapping[str, keras.Variable]) -> list[str]:
    """Assign the weights of equal name and shape, and return the paths of the rest."""
    # Vectors are alike, or n of them, if the layer that makes them is copied.
    kernel, saved = (of.get(f"{_EMBEDDING}kernel") for of in (weights, others))
    several = [_EMBEDDING]
    if kernel is not None and saved is not None and _of_shape(saved, kernel.shape, several=True) is not None:
        several += ["bnneck/", "logits/"]
    rest = []
    for name, weight in weights.items():
        other = others.get(name)
        value = None
        if other is not None and other.dtype == weight.dtype:
            value = _of_shape(other, weight.shape, name.startswith(tuple(several)))
        if value is None:
            rest.append(weight.path)
        else:
            weight.assign(value)
    return rest


def _of_shape(other: keras.Variable, shape: tuple[int, ...], several: bool) -> Any:
    """Return a weight of this shape, for `several` vectors where `other` is of one; `None` if it does not fit."""
    if other.shape == shape:
        return other
    times, left = divmod(shape[0], other.shape[0]) if shape and other.shape else (0, 0)
    if not several or not times or left or shape[1:] != other.shape[1:]:
        return None
    if other.path.endswith("/kernel"):
        return ops.tile(other / times, (times, 1))
    return ops.tile(other, (times,)) if other.path.startswith("bnneck/") else None
