"""Losses on embeddings and identity logits: a pure function and a Keras loss each."""

from kreid.losses.base import IdentityLoss
from kreid.losses.batch_hard_triplet import BatchHardTriplet, batch_hard_triplet
from kreid.losses.min_max import MinMax, min_max
from kreid.losses.smoothed_identity import SmoothedIdentity, smoothed_identity
from kreid.losses.weighted_sum import WeightedSum

__all__ = [
    "BatchHardTriplet",
    "IdentityLoss",
    "MinMax",
    "SmoothedIdentity",
    "WeightedSum",
    "batch_hard_triplet",
    "min_max",
    "smoothed_identity",
]
