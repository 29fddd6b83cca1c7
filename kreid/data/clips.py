"""Choose the frames of a training clip, or of a picture of a tracklet.

All functions are stateless NumPy. At test time a layer inside the model selects
the frames, so that the selection is exported with the model.
"""

import numpy as np
from numpy.typing import NDArray


def random_clip(length: int, num_frames: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw frames at random from the whole tracklet.

    If the tracklet is shorter than the clip, every frame comes at least
    `num_frames // length` times.

    Args:
        length: int, frames of the tracklet.
        num_frames: int, frames of the clip.
        rng: `np.random.Generator`.

    Returns:
        `int64` positions `(num_frames,)`, sorted in time.

    Raises:
        ValueError: if `length` or `num_frames` is below 1.

    Example:

    >>> clip = random_clip(2, 4, np.random.default_rng(0))
    >>> clip.tolist()
    [0, 0, 1, 1]
    """
    _check(length, num_frames)
    repeated = np.tile(np.arange(length), num_frames // length)
    drawn = rng.choice(length, num_frames % length, replace=False)
    return np.sort(np.concatenate([repeated, drawn]))


def chunk_clip(length: int, num_frames: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Cut the tracklet into equal chunks and draw one frame from each.

    A tracklet shorter than the clip repeats its frames evenly.

    Args:
        length: int, frames of the tracklet.
        num_frames: int, frames of the clip, which is the number of chunks.
        rng: `np.random.Generator`.

    Returns:
        `int64` positions `(num_frames,)`, sorted in time.

    Raises:
        ValueError: if `length` or `num_frames` is below 1.

    Example:

    >>> chunk_clip(2, 4, np.random.default_rng(0)).tolist()
    [0, 0, 1, 1]
    """
    _check(length, num_frames)
    edges = np.arange(num_frames + 1) * length // num_frames
    return rng.integers(edges[:-1], np.maximum(edges[1:], edges[:-1] + 1))


def adjacent_clip(length: int, num_frames: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw a run of consecutive frames.

    A tracklet shorter than the clip repeats its frames evenly.

    Args:
        length: int, frames of the tracklet.
        num_frames: int, frames of the clip.
        rng: `np.random.Generator`.

    Returns:
        `int64` positions `(num_frames,)`, sorted in time.

    Raises:
        ValueError: if `length` or `num_frames` is below 1.

    Example:

    >>> adjacent_clip(9, 4, np.random.default_rng(0)).tolist()
    [5, 6, 7, 8]
    """
    _check(length, num_frames)
    if length < num_frames:
        return np.arange(num_frames) * length // num_frames
    return rng.integers(length - num_frames + 1) + np.arange(num_frames)


def adjacent_clips(length: int, num_frames: int, clip_length: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw several runs of consecutive frames, one after the other in time.

    A tracklet of `num_frames` frames or more is cut into as many equal parts as
    there are runs, and one run is drawn from each part, so that no frame comes
    twice. In a shorter tracklet the runs overlap: they are spread evenly from
    the first frame to the last, so that every frame is used. A tracklet shorter
    than one run repeats its frames evenly, the same in every run.

    Args:
        length: int, frames of the tracklet.
        num_frames: int, frames of all runs together.
        clip_length: int, frames of one run, a divisor of `num_frames`.
        rng: `np.random.Generator`.

    Returns:
        `int64` positions `(num_frames,)`, run after run.

    Raises:
        ValueError: if a number is below 1, or `clip_length` does not divide
            `num_frames`.

    Example:

    >>> adjacent_clips(7, 9, 3, np.random.default_rng(0)).tolist()
    [0, 1, 2, 2, 3, 4, 4, 5, 6]

    Reference: Li et al., TACAN, 2020, section 3.1, divides a tracklet into
    clips. The choice of the clips for a batch is kreid's.
    """
    _check(length, num_frames)
    if clip_length < 1 or num_frames % clip_length:
        raise ValueError(
            "`num_frames` must be a multiple of `clip_length`. "
            f"Received: num_frames={num_frames}, clip_length={clip_length}"
        )
    runs = num_frames // clip_length
    if length < clip_length:
        return np.tile(np.arange(clip_length) * length // clip_length, runs)
    if length < num_frames:
        starts = np.arange(runs) * (length - clip_length) // max(1, runs - 1)
    else:
        edges = np.arange(runs + 1) * length // runs
        starts = rng.integers(edges[:-1], edges[1:] - clip_length + 1)
    return (starts[:, None] + np.arange(clip_length)).ravel()


def evenly(length: int, count: int) -> NDArray[np.int64]:
    """Spread positions evenly: the middles of `count` equal parts.

    Args:
        length: int, frames of the tracklet, 0 or more.
        count: int, number of positions, at least 1.

    Returns:
        Sorted `int64` positions `(min(length, count),)`; all positions of a tracklet of at most `count` frames.

    Raises:
        ValueError: if `length` is negative or `count` below 1.

    Example:

    >>> evenly(10, 4).tolist(), evenly(2, 4).tolist()
    ([1, 3, 6, 8], [0, 1])
    """
    if length < 0 or count < 1:
        raise ValueError(f"`length` must be 0 or more, `count` 1 or more. Received: length={length}, count={count}")
    if length <= count:
        return np.arange(length)
    return (2 * np.arange(count) + 1) * length // (2 * count)


def _check(length: int, num_frames: int) -> None:
    if length < 1 or num_frames < 1:
        raise ValueError(
            f"A clip and its tracklet need at least one frame each. Received: length={length}, num_frames={num_frames}"
        )
