"""Checks and tf.data settings that training and evaluation batches share."""

import os
from collections.abc import Sequence

import tensorflow as tf

from kreid.data.tracklet import Tracklet


def checked_size(image_size: Sequence[int]) -> tuple[int, int]:
    """Return `(height, width)` as ints, or raise `ValueError`."""
    if len(image_size) != 2 or min(image_size) < 1:
        raise ValueError(f"`image_size` must be (height, width), both positive. Received: image_size={image_size}")
    return int(image_size[0]), int(image_size[1])


def checked_tracklets(tracklets: Sequence[Tracklet]) -> tuple[Tracklet, ...]:
    """Return the tracklets as a tuple, or raise `ValueError` if there is none or one has no frame."""
    tracklets = tuple(tracklets)
    if not tracklets:
        raise ValueError("There must be at least one tracklet. Received: tracklets=()")
    empty = [tracklet.id for tracklet in tracklets if not tracklet.frames]
    if empty:
        raise ValueError(
            f"Every tracklet needs at least one frame; leave out the {len(empty)} empty ones. Received: id={empty[0]!r}"
        )
    return tracklets


def path_tensor(paths: Sequence[str]) -> tf.Tensor:
    """Return the paths as a string tensor, in bytes because a file name may not be valid UTF-8."""
    return tf.constant([os.fsencode(path) for path in paths])


def dataset_options() -> tf.data.Options:
    """Return options for deterministic batches that a distribution strategy does not shard again."""
    options = tf.data.Options()
    options.deterministic = True
    # The plan shards the batches already.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return options
