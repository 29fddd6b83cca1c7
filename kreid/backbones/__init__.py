"""Image networks that turn frames into feature maps, callable stage by stage."""

from kreid.backbones.checkpoints import Conversion, load_checkpoint, read_tensors
from kreid.backbones.normalization import FusedBatchNormalization
from kreid.backbones.staged import StagedBackbone, build

__all__ = ["Conversion", "FusedBatchNormalization", "StagedBackbone", "build", "load_checkpoint", "read_tensors"]
