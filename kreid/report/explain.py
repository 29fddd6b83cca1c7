"""What a model attends to in single tracklets."""

import dataclasses

import numpy as np

from kreid.data.tracklet import Tracklet


@dataclasses.dataclass(frozen=True, eq=False)
class Explained:
    """The frames of a tracklet that a model embeds, and its attentions over them.

    Args:
        tracklet: the `Tracklet`.
        frames: uint8 `(N, height, width, 3)`, selected and readable.
        attention: dict from the names of the model's `explainer` to arrays of this tracklet, without padding.
    """

    tracklet: Tracklet
    frames: np.ndarray
    attention: dict[str, np.ndarray]


def explain_tracklet(model, tracklet):
    """Embeds a tracklet and keeps the attentions.

    Args:
        model: a model of `kreid.models`.
        tracklet: a `Tracklet`.

    Returns:
        An `Explained`, or `None` if no frame can be read.
    """
    import keras

    # TensorFlow reads the files.
    from kreid.data.pipeline import EvaluationPipeline

    select = model.selection.positions
    pipeline = EvaluationPipeline([tracklet], model.image_size, select=select, max_damaged=1.0)
    for inputs, _ in pipeline.dataset():
        found = model.explainer.predict_on_batch(inputs)
        frames, lengths = model.selection(inputs["frames"], inputs["lengths"])
        length = int(lengths[0])
        frames = keras.ops.convert_to_numpy(frames)[0, :length]
        attention = {
            name: _without_padding(name, values[0], length, getattr(model, "clip_length", None))
            for name, values in found.items()
            if name != "embedding"
        }
        return Explained(tracklet, frames, attention)
    return None


def _without_padding(name, values, length, clip_length):
    values = np.asarray(values, np.float32)
    if name == "stages":
        return values
    if name == "self_attention":
        return values[:length, :length]
    if clip_length is None:
        return values[:length]
    if name == "clips":
        return values[: -(-length // clip_length)]
    # Within clips, a clip after the other: one weight for each frame.
    return values.reshape(-1)[:length] if name == "frames" else values[:length]
