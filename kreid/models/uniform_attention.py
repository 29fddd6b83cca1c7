"""A model with equal attention weights in place of its own, to see what the attention does."""

from collections.abc import Iterator

import keras
import numpy as np

from kreid.models.attention import time_weights
from kreid.models.tracklet_model import TrackletModel

# Above the rounding of float16, far below any attention.
_TOLERANCE = 2e-3


def with_uniform_attention(model: TrackletModel) -> TrackletModel:
    """Return this model with the same weights, copied, whose attention weights are all equal over real frames.

    Every attention of kreid's layers after the backbone takes part: over frames and clips, and over stages, positions
    and channels. Shares of a sum become equal shares; gates between 0 and 1 become 1. So it is average pooling of the
    same features:

    - Baseline: with any `pooling`, the plain mean;
    - STA: F1 and F2 are both the mean of the frames' maps;
    - RTF: maps are fused by equation 1 with equal w and v, and stages by their mean;
    - TACAN: the mean over clips of the mean over frames;
    - MG-RAFA: the mean over frames and positions, of each granularity;
    - GLTR: M holds 1/T everywhere, so that each frame gets the same added cue; the pyramid, which is a convolution and
      no attention, stays.

    A system of your own takes part by kreid's layers, such as `FrameAverage`, which then ignores the weights it is
    given, or by layers with an attribute `uniform_attention` that their `call` reads.

    Args:
        model: a model of `kreid.models`.

    Returns:
        A model of the same class, not compiled, for `embed`, `embedder`, `explainer` and `aggregator`. A file of it
        would hold the attention again.

    Raises:
        ValueError: if the model declares no attention over frames or clips, or one stays unequal: then it is made by
            another layer, whose weights cannot be replaced.

    Example:

    >>> backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32), last_stride=1)
    >>> model = kreid.models.STA(backbone, num_identities=10)
    >>> batch = model.checked_batch(np.random.default_rng(0).integers(0, 256, (1, 4, 64, 32, 3), "uint8"))
    >>> uniform = kreid.models.with_uniform_attention(model)
    >>> uniform.explainer.predict_on_batch(batch)["stripes"][0, :, 0].tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    if not temporal_attentions(model):
        raise ValueError(
            f"{type(model).__name__} declares no attention weights over frames or clips, so none can be replaced; "
            f"return them next to the vector and declare them. Received: attentions={dict(model.attentions)!r}"
        )
    twin = model.with_selection(model.test_selection, model.test_frames)
    for layer in _layers_after_backbone(twin):
        if hasattr(layer, "uniform_attention"):
            layer.uniform_attention = True
    unequal = _unequal_attentions(twin)
    if unequal:
        raise ValueError(
            f"{type(model).__name__}'s attention {unequal[0]!r} cannot be replaced by equal weights: it is made by a "
            "layer that is not kreid's. Weight frames by kreid.layers.FrameAverage, or give the layer an attribute "
            f"`uniform_attention` that its call reads. Received: attentions={list(model.attentions)!r}"
        )
    return twin


def temporal_attentions(model: TrackletModel) -> list[str]:
    """Return the names of a model's attentions that weight frames or clips.

    Args:
        model: a model of `kreid.models`.
    """
    return [name for name, (axes, _, weights) in model.attentions.items() if weights and {"frame", "clip"} & set(axes)]


def _layers_after_backbone(model: TrackletModel) -> Iterator[keras.layers.Layer]:
    in_backbone = {id(layer) for layer in model.backbone._flatten_layers()}
    return (layer for layer in model._flatten_layers() if id(layer) not in in_backbone)


def _unequal_attentions(model: TrackletModel) -> list[str]:
    """Return the names of the attentions that differ between the frames of two tracklets."""
    total = 2 * (model.part_frames or 2)
    lengths = [total, total - 1]
    # Noise, brighter from frame to frame: the mean features of noise alone are nearly the same.
    brightness = np.linspace(0.1, 1, total)[:, None, None, None]
    noise = np.random.default_rng(0).integers(0, 256, (2, total, *model.image_size, 3))
    batch = model.checked_batch((noise * brightness).astype(np.uint8), np.array(lengths))
    outputs = model.explainer.predict_on_batch(batch)
    unequal = []
    for name in temporal_attentions(model):
        for row, length in enumerate(lengths):
            selected = len(model.selection.positions(length))
            weights = time_weights(outputs[name][row], model.attentions[name].axes, selected, model.part_frames)
            if weights is not None and np.ptp(weights) > _TOLERANCE * weights.max():
                unequal.append(name)
                break
    return unequal
