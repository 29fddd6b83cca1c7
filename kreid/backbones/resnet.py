"""Residual networks: ResNet-50 (three forms), SE-ResNet-50, ResNet-34, ResNet-18 and a tiny one for tests."""

import dataclasses
from typing import Any

import keras
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.backbones.normalization import FusedBatchNormalization, InstanceBatchNormalization, convolve_and_normalize
from kreid.backbones.parts import Published, SqueezeExcite


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Describe a residual network.

    Args:
        blocks: residual blocks in conv2, conv3, conv4 and conv5.
        bottleneck: 1x1, 3x3, 1x1 convolutions with 4 times the width out, instead of two 3x3.
        width: channels of conv2's 3x3 convolutions; each later stage doubles them.
        stride_in_first: the stride of a bottleneck sits in its first 1x1 convolution (the original paper and
            keras.applications) instead of its 3x3 convolution (torchvision).
        conv_bias: convolutions before batch normalisation have a bias, as in keras.applications.
        epsilon: of batch normalisation.
        squeeze: reduction of the squeeze-and-excitation branch, 0 for none.
        instance: the first batch normalisation of each block of conv2, conv3 and conv4 is instance normalisation on
            half of the channels (IBN-a of Pan et al., 2018).
        preprocessing: the pixel scaling that published weights expect, see `kreid.layers.FramePreprocessing`.
        imagenet_file: the file of keras.applications that has this architecture's weights, if any.
    """

    blocks: tuple[int, int, int, int]
    bottleneck: bool
    width: int = 64
    stride_in_first: bool = False
    conv_bias: bool = False
    epsilon: float = 1e-5
    squeeze: int = 0
    instance: bool = False
    preprocessing: str = "torch"
    imagenet_file: str | None = None

    smallest = 32
    stem_strides = (2, 4)
    stage_names = ("conv2", "conv3", "conv4", "conv5")

    def stage(self, index: int, width: int, last_stride: int, stem_stride: int, branches: int, policy: Any) -> tuple:
        """Return the blocks of a stage, the stem before them or `None`, and whether a pooling comes between."""
        stride = (1, 2, 2, last_stride)[index]
        # A basic block needs no projection where neither the size nor the channels change.
        project = self.bottleneck or index > 0
        blocks = []
        for b in range(self.blocks[index]):
            prefix = f"{self.stage_names[index]}_block{b + 1}"
            arguments = (width * 2**index, stride if b == 0 else 1, project and b == 0, self, prefix, branches)
            blocks.append(_Block(*arguments, dtype=policy))
        stem = None
        if index == 0:
            stem = _Unit(width, 7, 2, self, True, 1, "conv1_conv", "conv1_bn", dtype=policy, name="conv1")
        return blocks, stem, index == 0 and stem_stride == 4

    def published(self, width: int) -> Published | None:
        """Return ImageNet's weights at a width, if Keras has them."""
        if self.imagenet_file is None or width != self.width:
            return None
        arguments = {"include_top": False, "input_shape": (224, 224, 3)}
        return Published(self.imagenet_file, lambda: keras.applications.ResNet50(**arguments))


ARCHITECTURES = {
    "resnet50": Architecture((3, 4, 6, 3), bottleneck=True),
    "resnet50_v1": Architecture(
        (3, 4, 6, 3),
        True,
        stride_in_first=True,
        conv_bias=True,
        epsilon=1.001e-5,
        preprocessing="caffe",
        imagenet_file="resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    "resnet50_ibn_a": Architecture((3, 4, 6, 3), bottleneck=True, instance=True),
    "se_resnet50": Architecture((3, 4, 6, 3), bottleneck=True, squeeze=16),
    "resnet18": Architecture((2, 2, 2, 2), bottleneck=False),
    "resnet34": Architecture((3, 4, 6, 3), bottleneck=False),
    "resnet_tiny": Architecture((1, 1, 1, 1), bottleneck=False, width=16),
}


def _conv(filters, size, stride, bias, name, dtype):
    # Explicit symmetric padding (in `_Unit`) goes with "valid": "same" pads strided convolutions on one side only,
    # which agrees with neither torchvision nor keras.applications.
    padding = "same" if stride == 1 else "valid"
    return keras.layers.Conv2D(
        filters,
        size,
        strides=stride,
        padding=padding,
        use_bias=bias,
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal"),
        dtype=dtype,
        name=name,
    )


class _Unit(keras.layers.Layer):
    """Convolution, batch normalisation and, if requested, ReLU; padded like torchvision's."""

    def __init__(self, filters, size, stride, arch, relu, branches, conv_name, bn_name, instance=False, **kwargs):
        super().__init__(**kwargs)
        self.stride, self.relu = stride, relu
        self.pad = size // 2 if stride > 1 else 0
        self.conv = _conv(filters, size, stride, arch.conv_bias, conv_name, self.dtype_policy)
        kind = InstanceBatchNormalization if instance else FusedBatchNormalization
        self.bn = kind(0.9, arch.epsilon, branches, dtype=self.dtype_policy, name=bn_name)

    def weighted_layers(self) -> list:
        """Return the layers with weights."""
        return [self.conv, *getattr(self.bn, "halves", [self.bn])]

    def build(self, input_shape: Shape) -> None:
        height, width = (None if s is None else s + 2 * self.pad for s in input_shape[1:3])
        self.conv.build((input_shape[0], height, width, input_shape[3]))
        self.bn.build((*input_shape[:-1], self.conv.filters))

    def call(self, x: Tensor, training: bool | None = None, branch: int = 0) -> Tensor:
        if self.pad:
            x = ops.pad(x, [(0, 0), (self.pad, self.pad), (self.pad, self.pad), (0, 0)])
        x = convolve_and_normalize(self.conv, self.bn, x, training, branch)
        return ops.relu(x) if self.relu else x

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        height, width = (None if s is None else -(-s // self.stride) for s in input_shape[1:3])
        return (input_shape[0], height, width, self.conv.filters)


class _Block(keras.layers.Layer):
    """One residual block (He et al., 2016, figure 5), basic or bottleneck."""

    def __init__(self, filters, stride, project, arch, prefix, branches, **kwargs):
        super().__init__(name=prefix, **kwargs)
        out = filters * (4 if arch.bottleneck else 1)

        def unit(number, channels, size, unit_stride, relu):
            names = f"{prefix}_{number}_conv", f"{prefix}_{number}_bn"
            instance = arch.instance and number == 1 and not prefix.startswith("conv5")
            arguments = (channels, size, unit_stride, arch, relu, branches)
            return _Unit(*arguments, *names, instance, dtype=self.dtype_policy, name=f"unit{number}")

        if arch.bottleneck:
            first, second = (stride, 1) if arch.stride_in_first else (1, stride)
            self.units = [
                unit(1, filters, 1, first, True),
                unit(2, filters, 3, second, True),
                unit(3, out, 1, 1, False),
            ]
        else:
            self.units = [unit(1, filters, 3, stride, True), unit(2, filters, 3, 1, False)]
        self.shortcut = unit(0, out, 1, stride, False) if project else None
        self.gate = SqueezeExcite(out, arch.squeeze, dtype=self.dtype_policy, name="se") if arch.squeeze else None

    def all_units(self) -> list:
        """Return the convolutions with their batch normalisation, the shortcut's last."""
        return [*self.units, *([] if self.shortcut is None else [self.shortcut])]

    def build(self, input_shape: Shape) -> None:
        shape = input_shape
        for unit in self.units:
            unit.build(shape)
            shape = unit.compute_output_shape(shape)
        if self.shortcut is not None:
            self.shortcut.build(input_shape)
        if self.gate is not None:
            self.gate.build(shape)

    def call(self, x: Tensor, training: bool | None = None, branch: int = 0) -> Tensor:
        residual = x
        for unit in self.units:
            residual = unit(residual, training=training, branch=branch)
        if self.gate is not None:
            residual = self.gate(residual)
        if self.shortcut is not None:
            x = self.shortcut(x, training=training, branch=branch)
        return ops.relu(x + residual)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        shape = input_shape
        for unit in self.units:
            shape = unit.compute_output_shape(shape)
        return shape
