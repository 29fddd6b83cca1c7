"""Hold out train persons, so that no choice is made on test persons."""

from collections.abc import Sequence

import numpy as np

from kreid.data.tracklet import ReidDataset, Tracklet


def split_holdout(
    tracklets: Sequence[Tracklet], share: float, seed: int = 0
) -> tuple[tuple[Tracklet, ...], ReidDataset | None]:
    """Split train tracklets into those to train on and a small retrieval problem of other persons.

    Of the held-out persons only those seen by two cameras or more can be found; each gives one query per camera (its
    first tracklet there), as MARS does.

    Args:
        tracklets: train tracklets.
        share: share of the persons to hold out, `0 <= share < 1`; with 0 none is.
        seed: of the choice.

    Returns:
        The tracklets to train on, and a `ReidDataset` of the held-out persons, or `None`.

    Raises:
        ValueError: if the share is out of its range, or leaves fewer than two persons to train on or to search.

    Example:

    >>> from kreid.data import Tracklet
    >>> walks = [Tracklet(f"{p}c{c}", p, c, ("a.jpg",)) for p in range(1, 11) for c in (1, 2)]
    >>> train, holdout = kreid.training.split_holdout(walks, 0.2)
    >>> len(train), len(holdout.test), len(holdout.query_rows)
    (16, 4, 4)
    """
    if not 0 <= share < 1:
        raise ValueError(f"The held-out share must be in [0, 1). Received: holdout={share!r}")
    if share == 0:
        return tuple(tracklets), None
    cameras: dict[int, set[int]] = {}
    for tracklet in tracklets:
        cameras.setdefault(tracklet.person, set()).add(tracklet.camera)
    persons = sorted(cameras)
    findable = [person for person in persons if len(cameras[person]) > 1]
    count = max(2, round(share * len(persons)))
    if len(findable) < count or len(persons) - count < 2:
        raise ValueError(
            f"Holding out needs {count} persons with two cameras and two more to train on, but there are "
            f"{len(persons)} persons, {len(findable)} of them with two cameras; set holdout=0. "
            f"Received: holdout={share!r}"
        )
    held = set(np.random.default_rng((seed, 0x40)).choice(findable, count, replace=False).tolist())
    train = tuple(tracklet for tracklet in tracklets if tracklet.person not in held)
    test = tuple(tracklet for tracklet in tracklets if tracklet.person in held)
    first: dict[tuple[int, int], int] = {}
    for row, tracklet in enumerate(test):
        first.setdefault((tracklet.person, tracklet.camera), row)
    return train, ReidDataset(
        name="train persons held out", train=(), test=test, query_rows=tuple(sorted(first.values()))
    )


def train_and_holdout(
    dataset: ReidDataset, share: float, seed: int = 0
) -> tuple[tuple[Tracklet, ...], ReidDataset | None]:
    """Return the tracklets to train on, and the set to choose on: the validation set, or held-out persons.

    Args:
        dataset: a `ReidDataset`.
        share: see `split_holdout`; 0 to choose nothing. A data set with a validation set keeps all its train persons
            for training.
        seed: see `split_holdout`.

    Returns:
        The tracklets to train on, and a `ReidDataset` of others, or `None`.

    Raises:
        ValueError: see `split_holdout`.
    """
    if share and dataset.validation:
        return dataset.train, dataset.validation
    return split_holdout(dataset.train, share, seed)
