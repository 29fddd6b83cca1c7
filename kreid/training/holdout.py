"""Hold out train persons, so that test persons choose nothing."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from kreid.data.tracklet import ReidDataset, Tracklet
from kreid.training.config import Config

# Keeps the choice of persons apart from other draws of the same seed.
_STREAM = 0x40


def split_holdout(
    tracklets: Sequence[Tracklet], share: float, seed: int = 0
) -> tuple[tuple[Tracklet, ...], ReidDataset | None]:
    """Split train tracklets into tracklets to train on and a small test set of other persons.

    Persons are held out only if they have tracklets in two cameras or more. Each held-out person has one query per
    camera, its first tracklet there, as in MARS. Where that would leave none of a person's tracklets in the gallery, as
    in PRID2011, the one of the last camera is no query.

    Args:
        tracklets: train tracklets.
        share: share of the persons to hold out, `0 <= share < 1`; 0 holds out none.
        seed: seed of the choice of persons.

    Returns:
        The tracklets to train on, and a `ReidDataset` of the held-out persons, or `None`.

    Raises:
        ValueError: if the share is out of its range, or leaves fewer than two persons to train on or to hold out.

    Example:

    >>> from kreid.data import Tracklet
    >>> walks = [Tracklet(f"{p}c{c}", p, c, ("a.jpg",)) for p in range(1, 11) for c in (1, 2)]
    >>> train, holdout = kreid.training.split_holdout(walks, 0.2)
    >>> len(train), len(holdout.test), len(holdout.query_rows)
    (16, 4, 2)
    """
    if not 0 <= share < 1:
        raise ValueError(f"The held-out share must be in [0, 1). Received: holdout={share!r}")
    if share == 0:
        return tuple(tracklets), None
    cameras_of: dict[int, set[int]] = {}
    for tracklet in tracklets:
        cameras_of.setdefault(tracklet.person, set()).add(tracklet.camera)
    persons = sorted(cameras_of)
    candidates = [person for person in persons if len(cameras_of[person]) > 1]
    count = max(2, round(share * len(persons)))
    if len(candidates) < count or len(persons) - count < 2:
        raise ValueError(
            f"Holding out needs {count} persons with two cameras and two more to train on, but there are "
            f"{len(persons)} persons, {len(candidates)} of them with two cameras; lower holdout, or choose and fit "
            "nothing: select=last, early_stopping=null, false_match_rate=null. "
            f"Received: holdout={share!r}"
        )
    held_out = set(np.random.default_rng((seed, _STREAM)).choice(candidates, count, replace=False).tolist())
    train = tuple(tracklet for tracklet in tracklets if tracklet.person not in held_out)
    test = tuple(tracklet for tracklet in tracklets if tracklet.person in held_out)
    query_rows: dict[int, dict[int, int]] = {person: {} for person in held_out}
    for row, tracklet in enumerate(test):
        query_rows[tracklet.person].setdefault(tracklet.camera, row)
    for person, count in Counter(tracklet.person for tracklet in test).items():
        if len(query_rows[person]) == count:
            del query_rows[person][max(query_rows[person])]
    rows = sorted(row for by_camera in query_rows.values() for row in by_camera.values())
    return train, ReidDataset(name="train persons held out", train=(), test=test, query_rows=tuple(rows))


def hold_out(dataset: ReidDataset, config: Config) -> tuple[tuple[Tracklet, ...], ReidDataset | None, str]:
    """Return the tracklets to train on, the set to choose on if something is chosen, and which persons are in it.

    Persons are held out only if they are needed: `Config.holdout_purposes`. A validation set costs no person, so it is
    evaluated also where nothing is chosen.

    Args:
        dataset: a `ReidDataset`.
        config: a `kreid.training.Config`.

    Returns:
        The tracklets to train on; a `ReidDataset` of other persons, or `None`; and a line to print.

    Raises:
        ValueError: see `split_holdout`.

    Example:

    >>> from kreid.data import ReidDataset, Tracklet
    >>> walks = tuple(Tracklet(f"{p}c{c}", p, c, ("a.jpg",)) for p in range(1, 11) for c in (1, 2))
    >>> config = kreid.training.Config("sta", holdout=0.2, select="best")
    >>> _, _, line = kreid.training.hold_out(ReidDataset("mine", walks, (), ()), config)
    >>> line
    'To choose the checkpoint, 2 of 10 train persons are held out: 4, 8.'
    """
    purposes = config.holdout_purposes
    share = config.holdout if purposes or dataset.validation else 0.0
    train, holdout = train_and_holdout(dataset, share, config.seed)
    if holdout is None:
        return train, None, "No train person is held out: nothing is chosen or fitted on held-out persons."
    purpose = f"To {' and '.join(purposes)}" if purposes else "To watch training"
    persons = sorted({tracklet.person for tracklet in holdout.test})
    if dataset.validation:
        return train, holdout, f"{purpose}, the {len(persons)} persons of the validation set are evaluated."
    rest = f" and {len(persons) - 10} more" if len(persons) > 10 else ""
    total = len({tracklet.person for tracklet in dataset.train})
    named = ", ".join(map(str, persons[:10]))
    return train, holdout, f"{purpose}, {len(persons)} of {total} train persons are held out: {named}{rest}."


def train_and_holdout(
    dataset: ReidDataset, share: float, seed: int = 0
) -> tuple[tuple[Tracklet, ...], ReidDataset | None]:
    """Return the tracklets to train on, and the set to choose on: the validation set, or held-out persons.

    Args:
        dataset: a `ReidDataset`. If it has a validation set, all train persons are trained on.
        share: see `split_holdout`; with 0 there is no set to choose on.
        seed: see `split_holdout`.

    Returns:
        The tracklets to train on, and a `ReidDataset` of other persons, or `None`.

    Raises:
        ValueError: see `split_holdout`.
    """
    if share and dataset.validation:
        return dataset.train, dataset.validation
    return split_holdout(dataset.train, share, seed)
