"""Selection of the frames that are embedded at test time."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.layers.base import KreidLayer
from kreid.layers.masking import lengths_of

STRATEGIES = ("all", "evenly", "chunk_firsts", "adjacent")


@keras.saving.register_keras_serializable(package="kreid")
class FrameSelection(KreidLayer):
    """Select the frames that a paper embeds at test time.

    It is part of the embedder, so evaluation, export and server always agree. With `N = num_frames` and a tracklet
    of `L` real frames:

    - `all`: every frame;
    - `evenly`: the middles of N equal parts, `floor((i + 0.5) L / N)` (STA at test time);
    - `chunk_firsts`: the first frame of each of N equal parts, `floor(i L / N)` (MG-RAFA at test time);
    - `adjacent`: the N adjacent frames in the middle, from `floor((L - N) / 2)` (GLTR's figure 4(d)).

    A tracklet of N frames or fewer keeps all of them; selecting twice changes nothing, so a reader may decode only the
    frames that will be selected (`positions`).

    Masking: positions are those of real frames. The second output is the number of selected real frames.

    Args:
        strategy: `"all"`, `"evenly"`, `"chunk_firsts"` or `"adjacent"`.
        num_frames: how many frames to keep; `None` for `"all"`.
        **kwargs: base layer arguments, such as `name`.

    Call arguments:
        frames: frames, maps or vectors.
        lengths: integers, the real frames of each tracklet.

    Input shape: `(batch, frames, ...)` and `(batch,)`.
    Output shape: `(batch, num_frames, ...)` and lengths `(batch,)`, int32; padded at the end.

    Raises:
        ValueError: for an unknown strategy, a `num_frames` that does not fit it, or lengths that are not one per
            tracklet.

    Example:

    >>> select = kreid.layers.FrameSelection("evenly", num_frames=2)
    >>> frames, lengths = select(np.arange(8.0).reshape(1, 8), np.array([8]))
    >>> keras.ops.convert_to_numpy(frames).tolist(), keras.ops.convert_to_numpy(lengths).tolist()
    ([[2.0, 6.0]], [2])
    >>> select.positions(100)
    array([25, 75])

    Reference: Fu et al., STA, 2019, gives N = 4 frames at test time without naming them; kreid spreads them evenly.
    Zhang et al., MG-RAFA, 2020, section 4.2, has the chunks without naming a frame; kreid takes the first of each. Li
    et al., GLTR, 2019, figure 4(d), varies the length of the test sequence without saying which frames; kreid takes
    the middle ones, as the ends of a track are where detectors clip a person.
    """

    def __init__(self, strategy: str = "all", num_frames: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if strategy not in STRATEGIES:
            raise ValueError(f"Choose one of {', '.join(STRATEGIES)}. Received: strategy={strategy!r}")
        if strategy == "all" and num_frames is not None:
            raise ValueError(
                f"Strategy 'all' takes no number of frames; leave it out. Received: num_frames={num_frames!r}"
            )
        if strategy != "all" and (not isinstance(num_frames, int) or num_frames < 1):
            raise ValueError(
                f"Strategy {strategy!r} needs a positive number of frames. Received: num_frames={num_frames!r}"
            )
        self.strategy = strategy
        self.num_frames = num_frames
        self.supports_masking = True
        self.autocast = False

    def positions(self, length: int) -> np.ndarray:
        """Return the positions that are kept of a tracklet of `length` frames."""
        count = self.num_frames
        if count is None or length <= count:
            return np.arange(length)
        if self.strategy == "adjacent":
            return (length - count) // 2 + np.arange(count)
        twice = 2 * np.arange(count) + (self.strategy == "evenly")
        return twice * length // (2 * count)

    def build(self, frames_shape: Shape, lengths_shape: Shape) -> None:
        """Has no weights."""

    def call(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        total = ops.shape(frames)[1]
        lengths = ops.clip(lengths_of(frames, lengths), 0, total)
        count = self.num_frames
        if count is None:
            return frames, lengths
        steps = ops.expand_dims(ops.arange(count, dtype="int32"), 0)
        # Integers only: the divisions are exact, as in `positions`.
        if self.strategy == "adjacent":
            chosen = (ops.expand_dims(lengths, 1) - count) // 2 + steps
        else:
            chosen = ((2 * steps + (self.strategy == "evenly")) * ops.expand_dims(lengths, 1)) // (2 * count)
        positions = ops.where(ops.expand_dims(lengths, 1) > count, chosen, ops.minimum(steps, total - 1))
        positions = ops.maximum(positions, 0)
        # Whole frames are gathered from the folded axis; `take_along_axis` would repeat the indices for every pixel.
        batch = ops.shape(frames)[0]
        rows = positions + total * ops.expand_dims(ops.arange(batch, dtype="int32"), 1)
        selected = ops.take(ops.reshape(frames, (-1, *frames.shape[2:])), rows, axis=0)
        return selected, ops.minimum(lengths, count)

    def compute_output_spec(self, frames: Tensor, lengths: Tensor) -> Any:
        batch, total = frames.shape[:2]
        kept = total if self.num_frames is None else self.num_frames
        return (
            keras.KerasTensor((batch, kept, *frames.shape[2:]), dtype=frames.dtype),
            keras.KerasTensor((batch,), dtype="int32"),
        )

    def compute_mask(self, frames: Tensor, lengths: Tensor = None, previous_mask: Tensor | None = None) -> None:
        return None
