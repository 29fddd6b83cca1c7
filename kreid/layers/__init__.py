"""Layers that turn frame features or maps into fewer frames or one embedding."""

from kreid.layers.clip_attention import ClipAttention
from kreid.layers.frame_average import FrameAverage
from kreid.layers.frame_preprocessing import FramePreprocessing
from kreid.layers.frame_selection import FrameSelection
from kreid.layers.frame_weights import FrameWeights
from kreid.layers.frames_to_clips import FramesToClips
from kreid.layers.inter_frame_distance import InterFrameDistance
from kreid.layers.inter_frame_relation import InterFrameRelation
from kreid.layers.intra_frame_attention import IntraFrameAttention
from kreid.layers.lengths_to_mask import LengthsToMask
from kreid.layers.semantic_attention import SemanticAttention
from kreid.layers.spatial_average import SpatialAverage
from kreid.layers.spatial_temporal_attention import SpatialTemporalAttention
from kreid.layers.temporal_attention import TemporalAttention
from kreid.layers.weighted_frame_average import WeightedFrameAverage

__all__ = [
    "ClipAttention",
    "FrameAverage",
    "FramePreprocessing",
    "FrameSelection",
    "FrameWeights",
    "FramesToClips",
    "InterFrameDistance",
    "InterFrameRelation",
    "IntraFrameAttention",
    "LengthsToMask",
    "SemanticAttention",
    "SpatialAverage",
    "SpatialTemporalAttention",
    "TemporalAttention",
    "WeightedFrameAverage",
]
