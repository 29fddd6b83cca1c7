"""Layers that turn frame features or maps into fewer frames or one embedding."""

from kreid.layers.agreement_pooling import AgreementPooling
from kreid.layers.clip_attention import ClipAttention
from kreid.layers.convolutional_block_attention import ConvolutionalBlockAttention
from kreid.layers.dilated_temporal_pyramid import DilatedTemporalPyramid
from kreid.layers.frame_average import FrameAverage
from kreid.layers.frame_preprocessing import FramePreprocessing
from kreid.layers.frame_selection import FrameSelection
from kreid.layers.frames_to_clips import FramesToClips
from kreid.layers.granularity_split import GranularitySplit
from kreid.layers.inter_frame_distance import InterFrameDistance
from kreid.layers.inter_frame_relation import InterFrameRelation
from kreid.layers.intra_frame_attention import IntraFrameAttention
from kreid.layers.lengths_to_mask import LengthsToMask
from kreid.layers.majority_pooling import MajorityPooling
from kreid.layers.node_embedding import NodeEmbedding
from kreid.layers.non_local import NonLocal
from kreid.layers.reference_aided_aggregation import ReferenceAidedAggregation
from kreid.layers.relation_aware_attention import RelationAwareAttention
from kreid.layers.semantic_attention import SemanticAttention
from kreid.layers.spatial_average import SpatialAverage
from kreid.layers.spatial_temporal_attention import SpatialTemporalAttention
from kreid.layers.squeeze_excitation import SqueezeExcitation
from kreid.layers.stripe_average import StripeAverage
from kreid.layers.temporal_attention import TemporalAttention
from kreid.layers.temporal_pyramid_pooling import TemporalPyramidPooling
from kreid.layers.temporal_self_attention import TemporalSelfAttention
from kreid.layers.undilated_temporal_pyramid import UndilatedTemporalPyramid

__all__ = [
    "AgreementPooling",
    "ClipAttention",
    "ConvolutionalBlockAttention",
    "DilatedTemporalPyramid",
    "FrameAverage",
    "FramePreprocessing",
    "FrameSelection",
    "FramesToClips",
    "GranularitySplit",
    "InterFrameDistance",
    "InterFrameRelation",
    "IntraFrameAttention",
    "LengthsToMask",
    "MajorityPooling",
    "NodeEmbedding",
    "NonLocal",
    "ReferenceAidedAggregation",
    "RelationAwareAttention",
    "SemanticAttention",
    "SpatialAverage",
    "SpatialTemporalAttention",
    "SqueezeExcitation",
    "StripeAverage",
    "TemporalAttention",
    "TemporalPyramidPooling",
    "TemporalSelfAttention",
    "UndilatedTemporalPyramid",
]
