"""How a model declares the attentions that it returns."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

AXES = ("frame", "clip", "clip_frame", "stage", "stripe", "height", "width", "channel")


class Attention(NamedTuple):
    """One attention that a model returns, or maps or features next to it: axes without the batch, and a label.

    The explainer cuts padding by these axes, and the report and plots draw by them, so they need to know no model's
    names. A model declares its attentions in the attribute or property `attentions`, a dict by name.

    Args:
        axes: names of the axes after the batch. `"frame"` are the selected frames, `"clip"` the clips of a model with
            `part_frames`, `"clip_frame"` the frames within a clip (it follows `"clip"`); these three are padded. The
            others are of fixed size: `"stage"`, `"stripe"`, `"height"`, `"width"`, `"channel"`.
        label: what the page writes above the picture.
        weights: `False` for maps and features, which explain a model but weight nothing: `kreid.training.AttentionLog`
            leaves them out, and of features, `("frame", "channel")`, the report draws the first principal component.

    Example:

    >>> kreid.models.Attention(("frame", "height", "width"), "Attention within each frame").axes
    ('frame', 'height', 'width')
    """

    axes: tuple[str, ...]
    label: str
    weights: bool = True


def check_attentions(model_name: str, declared: Mapping[str, Attention], returned: Mapping[str, tuple]) -> None:
    """Check that a model declares the attentions it returns.

    Args:
        model_name: name of the model's class, for the message.
        declared: the model's `attentions`.
        returned: shapes of the returned attentions by name, with the batch.

    Raises:
        ValueError: for an attention that is not declared or not returned, an unknown axis, or another number of axes.
    """
    for name in returned.keys() - declared.keys():
        raise ValueError(
            f"{model_name} returns an attention that it does not declare; add it to the class's `attentions`, such as "
            f"{{{name!r}: Attention(('frame',), 'Weight of each frame')}}. Received: attentions={dict(declared)!r}"
        )
    for name, (axes, *_) in declared.items():
        if name not in returned:
            raise ValueError(
                f"{model_name} declares an attention that its graph does not return; return it in the dict next to "
                f"the vector, or remove it from `attentions`. Received: attentions={dict(declared)!r}"
            )
        if not set(axes) <= set(AXES) or len(axes) != len(returned[name]) - 1:
            raise ValueError(
                f"The axes of {model_name}'s attention {name!r} must name each axis after the batch, from "
                f"{', '.join(AXES)}. Received: axes={axes!r} for shape {returned[name]!r}"
            )


def time_weights(
    values: ArrayLike, axes: tuple[str, ...], length: int, clip_frames: int | None = None
) -> NDArray[np.float64] | None:
    """Return how much each frame, or each clip, of one tracklet weighs in an attention.

    Values are added up over the other axes, such as stripes or positions; of an attention between frames over those
    that attend. Weights of frames within clips count by the clip's real frames, so that equal ones are equal in the
    whole tracklet.

    Args:
        values: the attention of one tracklet, with padding.
        axes: the name of each axis, see `Attention`.
        length: real frames of the tracklet, 1 or more.
        clip_frames: frames of a clip, for an attention with clips.

    Returns:
        float64 `(frames,)` or `(clips,)`, without padding; `None` for an attention without such an axis.

    Example:

    >>> time_weights([[0.5, 0.5], [1.0, 0.0]], ("clip", "clip_frame"), length=3, clip_frames=2).tolist()
    [1.0, 1.0, 1.0]
    """
    values = np.abs(np.asarray(values, np.float64))
    clips = -(-length // (clip_frames or 1))
    for place, name in enumerate(axes):
        if name in ("frame", "clip"):
            values = np.take(values, np.arange(length if name == "frame" else clips), axis=place)
    time = next((place for place, name in enumerate(axes) if name in ("frame", "clip")), None)
    if time is None:
        return None
    values = np.moveaxis(values, time, 0)
    if "clip_frame" not in axes:
        return values.reshape(len(values), -1).sum(axis=1)
    # The frames of a clip follow it, whatever came before.
    values = np.moveaxis(values, axes.index("clip_frame"), 1)
    weights = values.reshape(*values.shape[:2], -1).sum(axis=2)
    real = np.minimum(length - np.arange(clips) * weights.shape[1], weights.shape[1])
    return (weights * real[:, None]).ravel()[:length]
