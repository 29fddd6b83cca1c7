"""Image networks that turn frames into feature maps, callable stage by stage."""

from kreid.backbones.resnet import StagedBackbone, build

__all__ = ["StagedBackbone", "build"]
