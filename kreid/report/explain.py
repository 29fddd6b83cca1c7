"""What a model attends to in single tracklets."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from kreid.data.tracklet import Tracklet

# Frames in a call of the backbone, for models that embed longer tracklets part by part.
_FRAMES_AT_ONCE = 96

if TYPE_CHECKING:
    from kreid.models.tracklet_model import TrackletModel


@dataclasses.dataclass(frozen=True, eq=False)
class Explained:
    """The frames of a tracklet that a model embeds, and its attentions over them.

    Args:
        tracklet: the `Tracklet`.
        frames: uint8 `(N, height, width, 3)`, selected and readable.
        attention: dict by the names of the model's `attentions` to float32 arrays of this tracklet, without padding.
        axes: dict by the same names to the axes of the arrays, see `kreid.models.Attention`. Weights of frames within
            clips are joined, clip after clip: `("clip", "clip_frame")` becomes `("frame",)`.
        labels: dict by the same names to the text above a picture.
        clip_frames: frames of a clip, for arrays with the axis `"clip"`; the last clip may have fewer. `None` for a
            model without clips.
        unweighted: names of maps and features, which are not weights.
    """

    tracklet: Tracklet
    frames: np.ndarray
    attention: dict[str, np.ndarray]
    axes: dict[str, tuple[str, ...]]
    labels: dict[str, str]
    clip_frames: int | None = None
    unweighted: frozenset[str] = frozenset()


def explain_tracklet(model: "TrackletModel", tracklet: Tracklet) -> Explained | None:
    """Embed a tracklet and keep the attentions.

    Args:
        model: a model of `kreid.models`.
        tracklet: a `Tracklet`.

    Returns:
        An `Explained`, or `None` if no frame can be read.

    Raises:
        ValueError: if the model has the axis `"clip"` and no `part_frames`.
    """
    import keras

    # TensorFlow reads the files.
    from kreid.data.evaluation_pipeline import EvaluationPipeline

    select = model.selection.positions
    pipeline = EvaluationPipeline([tracklet], model.image_size, select=select, max_damaged=1.0)
    for inputs, _ in pipeline.dataset():
        inputs = {name: values.numpy() for name, values in inputs.items()}
        frames, lengths = model.selection(inputs["frames"], inputs["lengths"])
        length = int(lengths[0])
        if length > _FRAMES_AT_ONCE and explains_any_length(model):
            outputs = _by_parts(model, frames, length)
        else:
            outputs = model.explainer.predict_on_batch(inputs)
        attention, axes = {}, {}
        for name, declared in model.attentions.items():
            values = np.asarray(outputs[name][0], np.float32)
            attention[name], axes[name] = without_padding(values, declared.axes, length, model.part_frames)
        return Explained(
            tracklet,
            keras.ops.convert_to_numpy(frames)[0, :length],
            attention,
            axes,
            {name: declared.label for name, declared in model.attentions.items()},
            model.part_frames if any("clip" in declared.axes for declared in model.attentions.values()) else None,
            frozenset(name for name, declared in model.attentions.items() if not declared.weights),
        )
    return None


def explains_any_length(model: "TrackletModel") -> bool:
    """Whether a tracklet's length is limited only by its frames: vectors are aggregated, and of all frames."""
    return model.part_frames is not None and model.test_selection == "all"


def _by_parts(model: "TrackletModel", frames: Any, length: int) -> dict[str, Any]:
    """Return a long tracklet's attentions, with the maps of a bounded number of frames at a time in memory.

    Attentions of `encode_parts` start with an axis of parts, or of frames in whole parts, so chunks are joined there.
    """
    from keras import ops

    assert model.part_frames is not None
    step = max(1, _FRAMES_AT_ONCE // model.part_frames) * model.part_frames
    vectors, within = [], []
    for start in range(0, length, step):
        chunk = frames[:, start : min(start + step, length)]
        mask = np.ones((1, chunk.shape[1]), bool)
        encoded, _, *attention = model.encode_parts(model.test_maps(chunk), mask)
        vectors.append(ops.cast(encoded, "float32"))
        within.append(attention[0] if attention else {})
    joined = ops.concatenate(vectors, axis=1)
    aggregated = model.aggregate_parts(joined, np.ones(joined.shape[:2], bool))
    outputs = dict(aggregated[1]) if isinstance(aggregated, tuple) else {}
    outputs |= {name: ops.concatenate([chunk[name] for chunk in within], axis=1) for name in within[0]}
    return {name: ops.convert_to_numpy(values) for name, values in outputs.items()}


def without_padding(
    values: np.ndarray, axes: tuple[str, ...], length: int, clip_frames: int | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Cut the padding of one tracklet's attention by its axes.

    Args:
        values: the array, without a batch axis.
        axes: the name of each axis, see `kreid.models.Attention`.
        length: real frames of the tracklet.
        clip_frames: frames of a clip.

    Returns:
        The array, and its axes: frames within clips are joined to one axis of frames, as the last clip may be shorter.

    Raises:
        ValueError: for an axis of clips without `clip_frames`, or frames of clips without clips before them.

    Example:

    >>> weights = np.array([[0.5, 0.5], [1.0, 0.0]])  # two clips of two frames, three real
    >>> without_padding(weights, ("clip", "clip_frame"), length=3, clip_frames=2)
    (array([0.5, 0.5, 1. ]), ('frame',))
    """
    if "clip" in axes and clip_frames is None:
        raise ValueError(
            "An attention over clips needs the frames of a clip; set `part_frames` in the model's class. "
            f"Received: axes={axes!r}"
        )
    kept: list[str] = []
    for name in axes:
        place = len(kept)
        if name == "clip_frame":
            if kept[-1:] != ["clip"]:
                raise ValueError(f"The axis 'clip_frame' must follow 'clip'. Received: axes={axes!r}")
            place -= 1
            kept[-1] = name = "frame"
            values = values.reshape(*values.shape[:place], -1, *values.shape[place + 2 :])
        else:
            kept.append(name)
        # Whole clips stay until their frames are joined.
        sizes = {"frame": length, "clip": -(-length // (clip_frames or 1))}
        if name in sizes:
            values = values[(slice(None),) * place + (slice(sizes[name]),)]
    return values, tuple(kept)
