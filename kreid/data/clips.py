"""Which frames of a tracklet make a training clip, or represent it in pictures.

All functions are stateless NumPy. Which frames are embedded at test time is a
layer inside the model instead, so that it is exported with it.
"""

import numpy as np


def random_clip(length: int, num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Draw frames anywhere in the tracklet.

    A tracklet shorter than the clip gives every frame at least
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


def chunk_clip(length: int, num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Cut the tracklet into equal chunks and draw one frame from each.

    A tracklet shorter than the clip repeats its frames evenly.

    Args:
        length: int, frames of the tracklet.
        num_frames: int, frames of the clip and so the number of chunks.
        rng: `np.random.Generator`.

    Returns:
        `int64` positions `(num_frames,)`, sorted in time.

    Raises:
        ValueError: if `length` or `num_frames` is below 1.
    """
    _check(length, num_frames)
    edges = np.arange(num_frames + 1) * length // num_frames
    return rng.integers(edges[:-1], np.maximum(edges[1:], edges[:-1] + 1))


def adjacent_clip(length: int, num_frames: int, rng: np.random.Generator) -> np.ndarray:
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
    """
    _check(length, num_frames)
    if length < num_frames:
        return np.arange(num_frames) * length // num_frames
    return rng.integers(length - num_frames + 1) + np.arange(num_frames)


def adjacent_clips(length: int, num_frames: int, clip_length: int, rng: np.random.Generator) -> np.ndarray:
    """Draw several runs of consecutive frames, one after the other in time.

    A tracklet of `num_frames` frames or more is cut into equal parts, as many
    as there are runs, and each part gives one run, so that no frame comes twice. In a
    shorter one the runs are spread evenly from its first frame to its last, so
    that they overlap and every frame is shown. A tracklet shorter than a run
    repeats its frames evenly, the same in every run.

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
    clips. Which of them a batch sees is kreid's choice.
    """
    _check(length, num_frames)
    if clip_length < 1 or num_frames % clip_length:
        raise ValueError(
            "The frames are a whole number of runs; make `num_frames` a multiple of `clip_length`. "
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


def evenly(length: int, count: int) -> np.ndarray:
    """Spread positions evenly: the middles of `count` equal parts.

    Args:
        length: int, frames of the tracklet, 0 or more.
        count: int, how many positions, at least 1.

    Returns:
        Sorted integer positions `(min(length, count),)`; all of a tracklet with no more than `count`.

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
