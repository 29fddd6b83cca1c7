"""The options of k-reciprocal re-ranking."""

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class Reranking:
    """Options of k-reciprocal re-ranking; the defaults are the paper's.

    Args:
        k1: number of nearest neighbours, without the tracklet itself, that two tracklets must be among.
        k2: number of neighbours, with the tracklet itself, whose vectors are averaged; 1 averages nothing.
        lambda_: weight of the embeddings' distance, from 0 to 1; the Jaccard distance has the rest.
        power: to which distances are raised before each row is divided by its maximum. 2 gives squared Euclidean
            distances, as in the paper; 4 gives the result of toolboxes that square squared distances.
        block: rows of distances in memory at once, `None` for as many as fit 64 MiB. It does not change the result.

    Raises:
        ValueError: if an option is out of range.

    Example:

    >>> kreid.evaluation.Reranking(k1=10, power=4)
    Reranking(k1=10, k2=6, lambda_=0.3, power=4, block=None)

    Reference: Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, 2017.
    """

    k1: int = 20
    k2: int = 6
    lambda_: float = 0.3
    power: float = 2
    block: int | None = None

    def __post_init__(self):
        for name in ("k1", "k2", "block"):
            value = getattr(self, name)
            if name == "block" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise ValueError(f"`{name}` is an integer from 1. Received: {name}={value!r}")
        if not 0 <= self.lambda_ <= 1:
            raise ValueError(f"`lambda_` is between 0 and 1. Received: lambda_={self.lambda_!r}")
        if not 0 < self.power < math.inf:
            raise ValueError(f"`power` is positive. Received: power={self.power!r}")
