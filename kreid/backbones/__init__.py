"""Image networks that turn frames into feature maps, callable stage by stage."""

from kreid.backbones.normalization import FusedBatchNormalization
from kreid.backbones.staged import StagedBackbone, build

__all__ = ["FusedBatchNormalization", "StagedBackbone", "build"]
