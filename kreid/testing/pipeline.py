"""The contract of training pipelines."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from kreid.testing._common import require

_require = functools.partial(require, "A pipeline")


def check_pipeline(make: Callable[[], Any], *, epochs: int = 2) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Check that a training pipeline fulfils kreid's contract, of kreid's pipelines or your own.

    The checks:

    - batches are inputs of the models: uint8 `frames` `(B, T, H, W, 3)`, int32 `lengths` `(B,)`, all T, and contiguous
      int32 labels for every target, all with static shapes;
    - a batch has P persons with K tracklets each;
    - two pipelines from the same arguments give equal batches, bit for bit, and `dataset(first_epoch=1)` begins where
      an uninterrupted run is after one epoch.

    Args:
        make: callable without arguments that returns a new pipeline with `dataset(first_epoch=0)`, `steps_per_epoch`
            and `num_identities`, such as a `kreid.data.TrainingPipeline`.
        epochs: int, number of epochs to check, at least 2.

    Returns:
        The first batch, `(inputs, labels)`, as NumPy arrays.

    Raises:
        AssertionError: if a check fails, with a sentence on it.
    """
    pipeline = make()
    steps = pipeline.steps_per_epoch
    inputs_spec, labels_spec = pipeline.dataset().element_spec
    specs = {**inputs_spec, **labels_spec}
    _require(set(inputs_spec) == {"frames", "lengths"}, "the inputs are frames and lengths")
    _require(all(spec.shape.is_fully_defined() for spec in specs.values()), "shapes are static")
    batches = _batches(pipeline.dataset(), epochs * steps)
    labels = set()
    for inputs, targets in batches:
        labels |= _check_batch(inputs, targets)
    _require(labels <= set(range(pipeline.num_identities)), "labels are 0 to num_identities - 1")
    _require(
        _equal(_batches(make().dataset(), len(batches)), batches),
        "a pipeline from the same arguments gives equal batches",
    )
    resumed = _batches(make().dataset(first_epoch=1), len(batches) - steps)
    _require(_equal(resumed, batches[steps:]), "dataset(first_epoch=1) begins after one epoch")
    return batches[0]


def _check_batch(inputs, labels):
    frames, lengths = inputs["frames"], inputs["lengths"]
    _require(
        frames.dtype == np.uint8 and frames.ndim == 5 and frames.shape[-1] == 3, "frames are uint8 (B, T, H, W, 3)"
    )
    _require(lengths.dtype == np.int32 and (lengths == frames.shape[1]).all(), "lengths are int32, all T")
    first = next(iter(labels.values()))
    for label in labels.values():
        _require(label.dtype == np.int32 and label.shape == lengths.shape, "labels are int32, one per tracklet")
        _require(np.array_equal(label, first), "every target gets the same labels")
    counts = np.unique(first, return_counts=True)[1]
    _require((counts == counts[0]).all(), "every person of a batch has the same number of tracklets")
    return set(first.tolist())


def _batches(dataset, count):
    return list(itertools.islice(dataset.as_numpy_iterator(), count))


def _equal(some, others):
    return len(some) == len(others) and all(
        np.array_equal(a[key], b[key])
        for one, other in zip(some, others, strict=True)
        for a, b in zip(one, other, strict=True)
        for key in a
    )
