"""Image networks that turn frames into feature maps, callable stage by stage."""

from kreid.backbones.base import Backbone
from kreid.backbones.checkpoints import Conversion, load_checkpoint, read_tensors
from kreid.backbones.network import KerasBackbone, from_keras
from kreid.backbones.normalization import FusedBatchNormalization
from kreid.backbones.staged import StagedBackbone, build

__all__ = [
    "Backbone",
    "Conversion",
    "FusedBatchNormalization",
    "KerasBackbone",
    "StagedBackbone",
    "build",
    "from_keras",
    "load_checkpoint",
    "read_tensors",
]
