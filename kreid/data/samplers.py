"""Choose the tracklets, or single frames, of each training batch."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


class PKSampler:
    """Batches of P persons with K tracklets each.

    One epoch shows each identity once. If P does not divide the number of
    persons, the last batch is filled up with other persons of the epoch. The K
    tracklets of a person come from as many cameras as possible.

    A person with fewer than K tracklets repeats them, as evenly as possible:
    with two tracklets and K = 4 each comes twice. `TrainingPipeline` draws new
    frames for each repetition. So P = 8 and K = 4 work on PRID2011 and
    iLIDS-VID, whose persons have two tracklets. A person with a single tracklet
    is allowed if others have more.

    Args:
        persons_of_tracklets: int sequence, the person of each tracklet.
        persons_per_batch: int, P.
        tracklets_per_person: int, K.
        seed: int, 0 or more. An epoch depends only on the seed and its number.
        cameras_of_tracklets: optional int sequence, the camera of each
            tracklet. By default all tracklets count as one camera's.

    Raises:
        ValueError: if P or K is below 1, P exceeds the number of persons, K is
            above 1 and every person has a single tracklet, the two sequences
            differ in length, or the seed is negative.

    Example:

    >>> sampler = PKSampler([7, 7, 9, 9], persons_per_batch=2, tracklets_per_person=2)
    >>> sampler.epoch(0).shape
    (1, 4)

    Reference: Hermans et al., In Defense of the Triplet Loss for Person
    Re-Identification, 2017, section 2, draws P x K images. Zhang et al.,
    Multi-Granularity Reference-Aided Attentive Feature Aggregation (MG-RAFA),
    2020, takes P = 8 and K = 4 on PRID2011 and iLIDS-VID, as TACAN does.
    """

    def __init__(
        self,
        persons_of_tracklets: ArrayLike,
        persons_per_batch: int,
        tracklets_per_person: int,
        seed: int = 0,
        cameras_of_tracklets: ArrayLike | None = None,
    ) -> None:
        persons = np.asarray(persons_of_tracklets)
        cameras = np.zeros_like(persons) if cameras_of_tracklets is None else np.asarray(cameras_of_tracklets)
        if cameras.shape != persons.shape:
            raise ValueError(
                "Every tracklet needs one person and one camera. "
                f"Received: len(persons_of_tracklets)={len(persons)}, len(cameras_of_tracklets)={len(cameras)}"
            )
        if persons_per_batch < 1 or tracklets_per_person < 1:
            raise ValueError(
                "`persons_per_batch` and `tracklets_per_person` must be at least 1. Received: "
                f"persons_per_batch={persons_per_batch}, tracklets_per_person={tracklets_per_person}"
            )
        if seed < 0:
            raise ValueError(f"`seed` must be 0 or more. Received: seed={seed}")
        self._rows = [np.flatnonzero(persons == person) for person in np.unique(persons)]
        self._cameras = cameras
        if persons_per_batch > len(self._rows):
            raise ValueError(
                f"There are {len(self._rows)} persons: lower `persons_per_batch`. "
                f"Received: persons_per_batch={persons_per_batch}"
            )
        if tracklets_per_person > 1 and all(len(rows) == 1 for rows in self._rows):
            raise ValueError(
                "Every person has a single tracklet, so no pair of one person can be drawn: use "
                f"`tracklets_per_person=1`. Received: tracklets_per_person={tracklets_per_person}"
            )
        self.persons_per_batch = persons_per_batch
        self.tracklets_per_person = tracklets_per_person
        self.seed = seed

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in which each identity is shown."""
        return -(-len(self._rows) // self.persons_per_batch)

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        """Draw the batches of one epoch.

        Args:
            epoch: int, 0 or more.

        Returns:
            `int64` rows of tracklets `(steps, P * K)`; the K tracklets of a
            person are next to each other.
        """
        rng = np.random.default_rng((self.seed, epoch))
        order = _filled_up(rng.permutation(len(self._rows)), self.persons_per_batch, rng)
        drawn = np.stack([self._draw(self._rows[person], rng) for person in order])
        return drawn.reshape(self.steps_per_epoch, -1)

    def _draw(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        rows = rng.permutation(rows)
        cameras = self._cameras[rows]
        # Sort by the number of earlier tracklets of the same camera: first one per camera, then a second, and so on.
        turn = np.array([np.count_nonzero(cameras[:place] == camera) for place, camera in enumerate(cameras)])
        rows = rows[np.argsort(turn, kind="stable")]
        return np.resize(rows, self.tracklets_per_person)


class ShuffledSampler:
    """Batches of tracklets, or of frames, of any persons in random order.

    One epoch shows each item once. If the batch size does not divide the number
    of items, the last batch is filled up with other items of the epoch.

    Args:
        num_items: int, tracklets or frames to draw from.
        batch_size: int, items of a batch.
        seed: int, 0 or more. An epoch depends only on the seed and its number.

    Raises:
        ValueError: if `batch_size` is below 1 or above `num_items`, or the seed
            is negative.

    Example:

    >>> sampler = ShuffledSampler(5, batch_size=2)
    >>> sampler.epoch(0).shape, sorted(set(sampler.epoch(0).ravel().tolist()))
    ((3, 2), [0, 1, 2, 3, 4])

    Reference: Li et al., Global-Local Temporal Representations for Video
    Person Re-Identification, 2019, section 4.2: batches of 128 images, then of
    10 sequences.
    """

    def __init__(self, num_items: int, batch_size: int, seed: int = 0) -> None:
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1. Received: batch_size={batch_size}")
        if batch_size > num_items:
            raise ValueError(f"There are {num_items} items: lower `batch_size`. Received: batch_size={batch_size}")
        if seed < 0:
            raise ValueError(f"`seed` must be 0 or more. Received: seed={seed}")
        self.num_items = num_items
        self.batch_size = batch_size
        self.seed = seed

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in which each item is shown."""
        return -(-self.num_items // self.batch_size)

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        """Draw the batches of one epoch.

        Args:
            epoch: int, 0 or more.

        Returns:
            `int64` item numbers `(steps, batch_size)`.
        """
        rng = np.random.default_rng((self.seed, epoch))
        return _filled_up(rng.permutation(self.num_items), self.batch_size, rng).reshape(-1, self.batch_size)


def _filled_up(order: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Fill up the last batch of an order with items of earlier batches."""
    lacking = -len(order) % size
    if not lacking:
        return order
    earlier = order[: len(order) - (size - lacking)]
    return np.concatenate([order, rng.choice(earlier, lacking, replace=False)])
