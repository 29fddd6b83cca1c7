"""Losses on embeddings and identity logits: a pure function and a Keras loss each."""

from kreid.losses.base import IdentityLoss
from kreid.losses.batch_hard_triplet import BatchHardTriplet, batch_hard_triplet
from kreid.losses.circle import Circle, circle
from kreid.losses.contrastive import Contrastive, contrastive
from kreid.losses.lifted_structure import LiftedStructure, lifted_structure
from kreid.losses.metric_loss import MetricLoss
from kreid.losses.min_max import MinMax, min_max
from kreid.losses.multi_similarity import MultiSimilarity, multi_similarity
from kreid.losses.n_pairs import NPairs, n_pairs
from kreid.losses.semi_hard_triplet import SemiHardTriplet, semi_hard_triplet
from kreid.losses.smoothed_identity import SmoothedIdentity, smoothed_identity
from kreid.losses.weighted_sum import WeightedSum

__all__ = [
    "BatchHardTriplet",
    "Circle",
    "Contrastive",
    "IdentityLoss",
    "LiftedStructure",
    "MetricLoss",
    "MinMax",
    "MultiSimilarity",
    "NPairs",
    "SemiHardTriplet",
    "SmoothedIdentity",
    "WeightedSum",
    "batch_hard_triplet",
    "circle",
    "contrastive",
    "lifted_structure",
    "min_max",
    "multi_similarity",
    "n_pairs",
    "semi_hard_triplet",
    "smoothed_identity",
]
