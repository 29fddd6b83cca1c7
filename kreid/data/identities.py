"""Which tracklets meet in a training batch."""

import numpy as np


class PKSampler:
    """Batches of P persons with K tracklets each.

    One epoch shows each identity once; where P does not divide their number,
    the last batch is filled up with other persons of the epoch. The K tracklets
    of a person come from as many cameras as possible. A person with fewer than
    K tracklets repeats them; a person with a single one is allowed, and then
    has identical positives.

    Args:
        persons_of_tracklets: int sequence, the person of each tracklet.
        persons_per_batch: int, P.
        tracklets_per_person: int, K.
        seed: int, 0 or more. Epochs depend on it and their number alone.
        cameras_of_tracklets: optional int sequence, the camera of each
            tracklet. Without it all tracklets of a person count alike.

    Raises:
        ValueError: if P or K is below 1, P exceeds the number of persons, or K
            exceeds the tracklets of every person.

    Example:

    >>> sampler = PKSampler([7, 7, 9, 9], persons_per_batch=2, tracklets_per_person=2)
    >>> sampler.epoch(0).shape
    (1, 4)
    """

    def __init__(
        self, persons_of_tracklets, persons_per_batch, tracklets_per_person, seed=0, cameras_of_tracklets=None
    ):
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
        largest = max(len(rows) for rows in self._rows)
        if largest == 1 and tracklets_per_person > 1:
            raise ValueError(
                "Every person has a single tracklet, so no pair of one person can be drawn: use "
                f"`tracklets_per_person=1`. Received: tracklets_per_person={tracklets_per_person}"
            )
        if tracklets_per_person > largest:
            raise ValueError(
                f"No person has that many tracklets; the largest count available is {largest}. "
                f"Received: tracklets_per_person={tracklets_per_person}"
            )
        self.persons_per_batch = persons_per_batch
        self.tracklets_per_person = tracklets_per_person
        self.seed = seed

    @property
    def steps_per_epoch(self):
        """Batches until each identity has been shown."""
        return -(-len(self._rows) // self.persons_per_batch)

    def epoch(self, epoch):
        """Draws the batches of one epoch.

        Args:
            epoch: int, 0 or more.

        Returns:
            `int64` rows of tracklets `(steps, P * K)`; the K tracklets of a
            person lie side by side.
        """
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(len(self._rows))
        lacking = self.steps_per_epoch * self.persons_per_batch - len(order)
        # The fillers come from the front, which the last batch does not hold.
        front = order[: len(order) - (self.persons_per_batch - lacking)] if lacking else order[:0]
        order = np.concatenate([order, rng.choice(front, lacking, replace=False)]) if lacking else order
        drawn = np.stack([self._draw(self._rows[person], rng) for person in order])
        return drawn.reshape(self.steps_per_epoch, -1)

    def _draw(self, rows, rng):
        rows = rng.permutation(rows)
        cameras = self._cameras[rows]
        # How many tracklets of the same camera come before each: first one per camera, then a second, and so on.
        turn = np.array([np.count_nonzero(cameras[:place] == camera) for place, camera in enumerate(cameras)])
        rows = rows[np.argsort(turn, kind="stable")]
        return np.resize(rows, self.tracklets_per_person)
