"""MobileNetV2, as PyTorch's projects have it and as keras.applications has it."""

from typing import Any

import keras

from kreid._typing import Shape, Tensor
from kreid.backbones.parts import PaddedUnit, Published

# Expansion, channels, blocks and stride, as in Table 2 of the paper.
_GROUPS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
# The groups of each stage: a stage ends before the resolution halves.
_STAGES = (_GROUPS[:2], _GROUPS[2:3], _GROUPS[3:5], _GROUPS[5:])
_LAST_CHANNELS = 1280
_IMAGENET_FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{}_224_no_top.h5"


class MobileNetV2:
    """The convolutions of Sandler et al. (2018).

    `width` is the first convolution's channels: 32 is a width multiplier of 1. The last convolution has 1280 channels
    at every multiplier up to 1, as published. A stem's stride of 2 leaves out the stride of the second group of blocks.

    Args:
        of_keras: the form of keras.applications, which pads otherwise, has a larger epsilon and expects other pixels.
    """

    width = 32
    smallest = 32
    stem_strides = (2, 4)
    stage_names = ("stage1", "stage2", "stage3", "stage4")

    def __init__(self, of_keras: bool = False) -> None:
        self.of_keras = of_keras
        self.preprocessing = "tf" if of_keras else "torch"

    def published(self, width: int) -> Published | None:
        """Return ImageNet's weights at a width, if Keras has them."""
        multiplier = width / self.width
        if not self.of_keras or multiplier not in (0.5, 0.75, 1.0):
            return None
        arguments = {"alpha": multiplier, "include_top": False, "input_shape": (224, 224, 3)}
        return Published(_IMAGENET_FILE.format(multiplier), lambda: keras.applications.MobileNetV2(**arguments))

    def stage(self, index: int, width: int, last_stride: int, stem_stride: int, branches: int, policy: Any) -> tuple:
        """Blocks of a stage, the stem before them or `None`; no pooling."""

        def unit(name: str, filters: int | None, size: int, stride: int, relu: bool = True) -> PaddedUnit:
            kind: dict[str, Any] = {"epsilon": 1e-3, "same": True} if self.of_keras else {}
            activation = "relu6" if relu else None
            return PaddedUnit(name, filters, size, stride, activation, branches=branches, dtype=policy, **kind)

        number = 1 + sum(blocks for stage in _STAGES[:index] for _, _, blocks, _ in stage)
        given = width if index == 0 else self.scaled(_STAGES[index - 1][-1][1], width)
        stem = unit("features_0", width, 3, 2) if index == 0 else None
        blocks: list[Any] = []
        for position, (expansion, channels, count, stride) in enumerate(_STAGES[index]):
            if index == 0 and position == 1 and stem_stride == 2:
                stride = 1
            if index == 3 and position == 0:
                stride = last_stride
            filters = self.scaled(channels, width)
            for block in range(count):
                first = stride if block == 0 else 1
                blocks.append(_InvertedResidual(f"features_{number}", given, filters, expansion, first, unit, policy))
                given, number = filters, number + 1
        if index == 3:
            blocks.append(unit(f"features_{number}", max(_LAST_CHANNELS, self.scaled(_LAST_CHANNELS, width)), 1, 1))
        return blocks, stem, False

    def scaled(self, channels: int, width: int) -> int:
        """Return channels at this width: a multiple of 8, not more than a tenth below."""
        exact = channels * width / self.width
        rounded = max(8, int(exact + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * exact else rounded


class _InvertedResidual(keras.layers.Layer):
    """Expansion, depthwise convolution and linear projection, added to the input where the size stays (figure 3)."""

    def __init__(self, name, given, filters, expansion, stride, unit, policy):
        super().__init__(name=name, dtype=policy)
        self.units = [] if expansion == 1 else [unit(f"{name}_expand", given * expansion, 1, 1)]
        self.units += [unit(f"{name}_depthwise", None, 3, stride), unit(f"{name}_project", filters, 1, 1, relu=False)]
        self.adds = stride == 1 and given == filters

    def all_units(self) -> list:
        """Return its convolutions with their batch normalisation."""
        return self.units

    def build(self, input_shape: Shape) -> None:
        for unit in self.units:
            unit.build(input_shape)
            input_shape = unit.compute_output_shape(input_shape)

    def call(self, x: Tensor, training: bool | None = None, branch: int = 0) -> Tensor:
        residual = x
        for unit in self.units:
            residual = unit(residual, training=training, branch=branch)
        return x + residual if self.adds else residual

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        for unit in self.units:
            input_shape = unit.compute_output_shape(input_shape)
        return input_shape
