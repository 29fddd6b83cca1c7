"""OSNet, a small network for re-identification, which sees several scales in each block."""

from typing import Any

import keras

from kreid._typing import Shape, Tensor
from kreid.backbones.parts import PaddedUnit, SqueezeExcite

# Channels of conv2, conv3 and conv4, as multiples of conv1's.
_MULTIPLES = (4, 6, 8)
_BLOCKS = 2


class OSNet:
    """The convolutions of Zhou et al. (2019).

    `width` is conv1's channels: 64 for `osnet_x1_0`, 16 for `osnet_x0_25`. The pooling between two stages stands at the
    start of the later one. The published network halves maps four times (stride 16); `last_stride` 1 omits the last.
    """

    preprocessing = "torch"
    smallest = 32
    stem_strides = (2, 4)
    stage_names = ("conv2", "conv3", "conv4", "conv5")

    def __init__(self, width: int) -> None:
        self.width = width

    def published(self, width: int) -> None:
        """Return nothing: Keras has no weights."""

    def stage(self, index: int, width: int, last_stride: int, stem_stride: int, branches: int, policy: Any) -> tuple:
        """Blocks of a stage, the stem before them or `None`, and whether a pooling comes between."""

        def unit(name: str, filters: int | None, size: int, **options: Any) -> PaddedUnit:
            return PaddedUnit(name, filters, size, branches=branches, dtype=policy, **options)

        name = self.stage_names[index]
        if index == 3:
            return [unit(name, width * _MULTIPLES[-1], 1)], None, False
        filters = width * _MULTIPLES[index]
        given = width if index == 0 else width * _MULTIPLES[index - 1]
        blocks: list[Any] = []
        if index > 0:
            transition = unit(f"{name}_transition", given, 1)
            blocks.append(_Transition(transition, last_stride if index == 2 else 2, policy))
        for number in range(1, _BLOCKS + 1):
            block = _OmniScaleBlock(f"{name}_block{number}", filters, number == 1, unit, policy)
            blocks.append(block)
        stem = unit("conv1", width, 7, stride=2) if index == 0 else None
        return blocks, stem, index == 0 and stem_stride == 4


class _Transition(keras.layers.Layer):
    """1x1 convolution and the mean of 2x2 pixels."""

    def __init__(self, unit: PaddedUnit, stride: int, policy: Any) -> None:
        super().__init__(name=f"{unit.name}_pooled", dtype=policy)
        self.unit = unit
        self.pool = keras.layers.AveragePooling2D(2, dtype=policy, name="pool") if stride == 2 else None

    def all_units(self) -> list:
        """Return its convolution."""
        return [self.unit]

    def build(self, input_shape: Shape) -> None:
        self.unit.build(input_shape)

    def call(self, x: Tensor, training: bool | None = None, branch: int = 0) -> Tensor:
        x = self.unit(x, training=training, branch=branch)
        return x if self.pool is None else self.pool(x)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        shape = self.unit.compute_output_shape(input_shape)
        return shape if self.pool is None else self.pool.compute_output_shape(shape)


class _OmniScaleBlock(keras.layers.Layer):
    """Residual block of four streams with one to four light 3x3 convolutions, fused by one shared gate (figure 4b)."""

    def __init__(self, name: str, filters: int, project: bool, unit: Any, policy: Any) -> None:
        super().__init__(name=name, dtype=policy)
        middle = filters // 4
        self.reduce = unit(f"{name}_reduce", middle, 1)
        self.streams = [
            [
                part
                for depth in range(1, length + 1)
                for part in (
                    # The light convolution: a linear 1x1, then a depthwise 3x3.
                    unit(f"{name}_{length}_{depth}_pointwise", middle, 1, activation=None, normalize=False),
                    unit(f"{name}_{length}_{depth}_depthwise", None, 3),
                )
            ]
            for length in range(1, 5)
        ]
        self.gate = SqueezeExcite(middle, 16, dtype=policy, name="gate")
        self.expand = unit(f"{name}_expand", filters, 1, activation=None)
        self.shortcut = unit(f"{name}_shortcut", filters, 1, activation=None) if project else None

    def all_units(self) -> list:
        """Convolutions with their batch normalisation, the shortcut's last."""
        streams = [unit for stream in self.streams for unit in stream]
        return [self.reduce, *streams, self.expand, *([] if self.shortcut is None else [self.shortcut])]

    def build(self, input_shape: Shape) -> None:
        self.reduce.build(input_shape)
        middle = self.reduce.compute_output_shape(input_shape)
        for stream in self.streams:
            for unit in stream:
                unit.build(middle)
        self.gate.build(middle)
        self.expand.build(middle)
        if self.shortcut is not None:
            self.shortcut.build(input_shape)

    def call(self, x: Tensor, training: bool | None = None, branch: int = 0) -> Tensor:
        reduced = self.reduce(x, training=training, branch=branch)
        fused = 0.0
        for stream in self.streams:
            scale = reduced
            for unit in stream:
                scale = unit(scale, training=training, branch=branch)
            fused = fused + self.gate(scale)
        if self.shortcut is not None:
            x = self.shortcut(x, training=training, branch=branch)
        return keras.ops.relu(x + self.expand(fused, training=training, branch=branch))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return self.expand.compute_output_shape(self.reduce.compute_output_shape(input_shape))
