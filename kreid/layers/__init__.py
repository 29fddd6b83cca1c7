"""Layers that turn frame features or maps into fewer frames or one embedding."""

from kreid.layers.frame_average import FrameAverage
from kreid.layers.frame_preprocessing import FramePreprocessing
from kreid.layers.frame_selection import FrameSelection
from kreid.layers.lengths_to_mask import LengthsToMask
from kreid.layers.spatial_average import SpatialAverage
from kreid.layers.spatial_temporal_attention import SpatialTemporalAttention

__all__ = [
    "FrameAverage",
    "FramePreprocessing",
    "FrameSelection",
    "LengthsToMask",
    "SpatialAverage",
    "SpatialTemporalAttention",
]
