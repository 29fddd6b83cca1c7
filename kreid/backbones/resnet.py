"""Residual networks in four stages: ResNet-50 (two forms), SE-ResNet-50, ResNet-18 and a tiny one for tests."""

import dataclasses
import difflib
import os
import pathlib

import keras
from keras import ops

from kreid.backbones.normalization import FusedBatchNormalization


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What tells one residual network from another.

    Args:
        blocks: residual blocks in conv2, conv3, conv4 and conv5.
        bottleneck: 1x1, 3x3, 1x1 convolutions with 4 times the width out, instead of two 3x3.
        width: channels of conv2's 3x3 convolutions; each later stage doubles them.
        stride_in_first: the stride of a bottleneck sits in its first 1x1 convolution (the original paper and
            keras.applications) instead of its 3x3 convolution (torchvision).
        conv_bias: convolutions before batch normalisation have a bias, as in keras.applications.
        epsilon: of batch normalisation.
        squeeze: reduction of the squeeze-and-excitation branch, 0 for none.
        preprocessing: the pixel scaling that published weights expect, see `kreid.layers.FramePreprocessing`.
    """

    blocks: tuple[int, int, int, int]
    bottleneck: bool
    width: int = 64
    stride_in_first: bool = False
    conv_bias: bool = False
    epsilon: float = 1e-5
    squeeze: int = 0
    preprocessing: str = "torch"


ARCHITECTURES = {
    "resnet50": Architecture((3, 4, 6, 3), bottleneck=True),
    "resnet50_v1": Architecture(
        (3, 4, 6, 3), True, stride_in_first=True, conv_bias=True, epsilon=1.001e-5, preprocessing="caffe"
    ),
    "se_resnet50": Architecture((3, 4, 6, 3), bottleneck=True, squeeze=16),
    "resnet18": Architecture((2, 2, 2, 2), bottleneck=False),
    "resnet_tiny": Architecture((1, 1, 1, 1), bottleneck=False, width=16),
}

IMAGENET_FILE = "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"


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
    """Convolution, batch normalisation and, if asked, ReLU; padded like torchvision's."""

    def __init__(self, filters, size, stride, arch, relu, branches, conv_name, bn_name, **kwargs):
        super().__init__(**kwargs)
        self.stride, self.relu = stride, relu
        self.pad = size // 2 if stride > 1 else 0
        self.conv = _conv(filters, size, stride, arch.conv_bias, conv_name, self.dtype_policy)
        self.bn = FusedBatchNormalization(0.9, arch.epsilon, branches, dtype=self.dtype_policy, name=bn_name)

    def build(self, input_shape):
        height, width = (None if s is None else s + 2 * self.pad for s in input_shape[1:3])
        self.conv.build((input_shape[0], height, width, input_shape[3]))
        self.bn.build((*input_shape[:-1], self.conv.filters))

    def call(self, x, training=None, branch=0):
        if self.pad:
            x = ops.pad(x, [(0, 0), (self.pad, self.pad), (self.pad, self.pad), (0, 0)])
        x = self.bn(self.conv(x), training=training, branch=branch)
        return ops.relu(x) if self.relu else x

    def compute_output_shape(self, input_shape):
        height, width = (None if s is None else -(-s // self.stride) for s in input_shape[1:3])
        return (input_shape[0], height, width, self.conv.filters)


class _SqueezeExcite(keras.layers.Layer):
    """Channel gates from the map's mean (Hu et al., 2018, equations 2 to 4)."""

    def __init__(self, channels, reduction, **kwargs):
        super().__init__(**kwargs)
        self.squeeze = keras.layers.Dense(channels // reduction, "relu", dtype=self.dtype_policy, name="squeeze")
        self.excite = keras.layers.Dense(channels, "sigmoid", dtype=self.dtype_policy, name="excite")

    def build(self, input_shape):
        self.squeeze.build((input_shape[0], input_shape[-1]))
        self.excite.build((input_shape[0], self.squeeze.units))

    def call(self, x):
        gates = self.excite(self.squeeze(ops.mean(x, axis=(1, 2))))
        return x * gates[:, None, None, :]


class _Block(keras.layers.Layer):
    """One residual block (He et al., 2016, figure 5), basic or bottleneck."""

    def __init__(self, filters, stride, project, arch, prefix, branches, **kwargs):
        super().__init__(name=prefix, **kwargs)
        out = filters * (4 if arch.bottleneck else 1)

        def unit(number, channels, size, unit_stride, relu):
            names = f"{prefix}_{number}_conv", f"{prefix}_{number}_bn"
            arguments = (channels, size, unit_stride, arch, relu, branches)
            return _Unit(*arguments, *names, dtype=self.dtype_policy, name=f"unit{number}")

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
        self.gate = _SqueezeExcite(out, arch.squeeze, dtype=self.dtype_policy, name="se") if arch.squeeze else None

    def build(self, input_shape):
        shape = input_shape
        for unit in self.units:
            unit.build(shape)
            shape = unit.compute_output_shape(shape)
        if self.shortcut is not None:
            self.shortcut.build(input_shape)
        if self.gate is not None:
            self.gate.build(shape)

    def call(self, x, training=None, branch=0):
        residual = x
        for unit in self.units:
            residual = unit(residual, training=training, branch=branch)
        if self.gate is not None:
            residual = self.gate(residual)
        if self.shortcut is not None:
            x = self.shortcut(x, training=training, branch=branch)
        return ops.relu(x + residual)

    def compute_output_shape(self, input_shape):
        shape = input_shape
        for unit in self.units:
            shape = unit.compute_output_shape(shape)
        return shape


class Stage(keras.layers.Layer):
    """One stage of a backbone: takes single maps or the frames of tracklets.

    Args:
        blocks: the residual blocks, in order.
        stem: the unit before conv2 (first stage only).
        pool: max pooling follows the stem.
        branches: the branches that pass this stage, see `StagedBackbone`; 0 is the frames'.
        **kwargs: base layer arguments.

    Call arguments:
        x: maps.
        branch: the branch they are of, one of `branches`.

    Input shape: `(batch, h, w, C)` or `(batch, frames, h, w, C)`.
    Output shape: the same rank.
    """

    def __init__(self, blocks, stem=None, pool=False, branches=(0,), **kwargs):
        super().__init__(**kwargs)
        self.branches = tuple(branches)
        self.stem = stem
        self.pool = pool
        self.blocks = blocks

    def build(self, input_shape):
        shape = self._fold_shape(input_shape)
        if self.stem is not None:
            self.stem.build(shape)
            shape = self.stem_output_shape(shape)
        for block in self.blocks:
            block.build(shape)
            shape = block.compute_output_shape(shape)

    @staticmethod
    def _fold_shape(shape):
        return (None, *shape[2:]) if len(shape) == 5 else tuple(shape)

    def stem_output_shape(self, input_shape):
        """Shape after the stem and its pooling."""
        batch, *size, channels = self.stem.compute_output_shape(input_shape)
        if self.pool:
            size = [None if s is None else -(-s // 2) for s in size]
        return (batch, *size, channels)

    def call(self, x, training=None, branch=0):
        if branch not in self.branches:
            raise ValueError(
                f"Stage {self.name} has batch-norm statistics for the branches {self.branches}; build the backbone "
                f"with more. Received: branch={branch!r}"
            )
        # The statistics' position among this stage's.
        branch = self.branches.index(branch)
        frames = ops.shape(x)[:2] if len(x.shape) == 5 else None
        if frames is not None:
            x = ops.reshape(x, (-1, *x.shape[2:]))
        if self.stem is not None:
            x = self.stem(x, training=training, branch=branch)
        if self.pool:
            # Zeros cannot win over activations that passed a ReLU, so zero padding equals padding with minus infinity.
            x = ops.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
            x = ops.max_pool(x, 3, strides=2, padding="valid")
        for block in self.blocks:
            x = block(x, training=training, branch=branch)
        return x if frames is None else ops.reshape(x, (*frames, *x.shape[1:]))

    def compute_output_shape(self, input_shape):
        shape = self._fold_shape(input_shape)
        if self.stem is not None:
            shape = self.stem_output_shape(shape)
        for block in self.blocks:
            shape = block.compute_output_shape(shape)
        return (*input_shape[:2], *shape[1:]) if len(input_shape) == 5 else shape


@keras.saving.register_keras_serializable(package="kreid")
class StagedBackbone(keras.Model):
    """A residual network without its classifier, callable whole or stage by stage.

    `backbone(x)` runs all stages; `backbone.stages[i](x)` runs one with the same weights. Both take single images
    and the frames of tracklets. Pixels are expected scaled as `backbone.preprocessing` says (see
    `kreid.layers.FramePreprocessing`); the models of `kreid.models` do that themselves.

    Args:
        architecture: one of `resnet50`, `resnet50_v1`, `se_resnet50`, `resnet18`, `resnet_tiny`.
        image_size: `(height, width)` of the frames in pixels.
        last_stride: 1 or 2, the stride of conv5. 1 doubles the map's height and width.
        width: channels of conv2, `None` for the architecture's own. Halving it quarters the weights.
        stem_stride: 4 as published (a convolution of stride 2 and max pooling), or 2 without the pooling: maps are
            then twice as high and wide, which suits frames of half the papers' size.
        branches: stages (1 to 3) after which maps of another kind than frames' join, such as means over frames. They
            pass the following stages by `stage(x, branch=1)` for those that join after stage 1, with the same weights
            and moving batch-norm statistics of their own. Frames are branch 0.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Input shape: `(batch, H, W, 3)` or `(batch, frames, H, W, 3)`.
    Output shape: `(batch, h, w, C)` or `(batch, frames, h, w, C)`.

    Raises:
        ValueError: for an unknown architecture, or a size, stride or branch that does not fit.

    Example:

    >>> backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32), last_stride=1)
    >>> tuple(backbone(np.zeros((2, 4, 64, 32, 3), "float32")).shape)
    (2, 4, 4, 2, 128)
    >>> backbone.output_size, backbone.channels
    ((4, 2), 128)

    Means over frames after the first stage, through the others:

    >>> backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32), branches=(1,))
    >>> x = backbone.stages[0](np.zeros((2, 4, 64, 32, 3), "float32")).numpy().mean(axis=1)
    >>> for stage in backbone.stages[1:]:
    ...     x = stage(x, branch=1)
    >>> tuple(x.shape)
    (2, 2, 1, 128)

    Reference: He et al., Deep Residual Learning for Image Recognition, 2016; Hu et al., Squeeze-and-Excitation
    Networks, 2018 (`se_resnet50`; the gate follows the last batch normalisation, reduction 16). `last_stride=1` follows
    the STA and MG-RAFA papers. Without weights, convolutions start from He's fan-out initialisation and the residual
    branches are not scaled down.
    """

    def __init__(
        self,
        architecture,
        image_size=(256, 128),
        last_stride=2,
        width=None,
        stem_stride=4,
        branches=(),
        **kwargs,
    ):
        kwargs.setdefault("name", str(architecture))
        trainable = kwargs.pop("trainable", True)
        super().__init__(**kwargs)
        if architecture not in ARCHITECTURES:
            near = difflib.get_close_matches(str(architecture), ARCHITECTURES, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"Unknown backbone; the known ones are {', '.join(ARCHITECTURES)}.{hint} "
                f"Received: architecture={architecture!r}"
            )
        if last_stride not in (1, 2):
            raise ValueError(f"The last stage's stride must be 1 or 2. Received: last_stride={last_stride!r}")
        if stem_stride not in (2, 4):
            raise ValueError(f"The stem's stride must be 2 or 4. Received: stem_stride={stem_stride!r}")
        if len(image_size) != 2 or min(image_size) < 32:
            raise ValueError(
                f"Frames must be at least 32 pixels high and wide, given as (height, width). "
                f"Received: image_size={image_size!r}"
            )
        arch = ARCHITECTURES[architecture]
        if width is not None and (width < 8 or width % 8):
            raise ValueError(f"The width must be a positive multiple of 8. Received: width={width!r}")
        if not set(branches) <= {1, 2, 3} or len(set(branches)) != len(branches):
            raise ValueError(f"Branches join after stage 1, 2 or 3, each once. Received: branches={branches!r}")
        self.architecture = architecture
        self.image_size = tuple(int(s) for s in image_size)
        self.last_stride = last_stride
        self.width = width
        self.stem_stride = stem_stride
        self.branches = tuple(sorted(branches))
        self.preprocessing = arch.preprocessing
        filters = width or arch.width
        self.channels = filters * 8 * (4 if arch.bottleneck else 1)
        shrink = 4 * stem_stride * last_stride
        self.output_size = tuple(-(-s // shrink) for s in self.image_size)
        self.stages = [
            self._stage(index, arch, filters * 2**index, (1, 2, 2, last_stride)[index], filters) for index in range(4)
        ]
        # Now that there are parts: what is set before does not reach them, and what is set to the same never does.
        self.trainable = trainable

    def _stage(self, index, arch, filters, stride, stem_filters):
        prefix = f"conv{index + 2}"
        policy = self.dtype_policy
        # A basic block needs no projection where neither the size nor the channels change.
        project = arch.bottleneck or index > 0
        # Only branches that joined before this stage pass it.
        branches = (0, *(branch for branch in self.branches if branch <= index))
        blocks = []
        for b in range(arch.blocks[index]):
            arguments = (filters, stride if b == 0 else 1, project and b == 0, arch, f"{prefix}_block{b + 1}")
            blocks.append(_Block(*arguments, len(branches), dtype=policy))
        stem = None
        if index == 0:
            stem = _Unit(stem_filters, 7, 2, arch, True, 1, "conv1_conv", "conv1_bn", dtype=policy, name="conv1")
        return Stage(blocks, stem, index == 0 and self.stem_stride == 4, branches, dtype=policy, name=prefix)

    def build(self, input_shape):
        for stage in self.stages:
            stage.build(input_shape)
            input_shape = stage.compute_output_shape(input_shape)

    def call(self, inputs, training=None):
        x = inputs
        for stage in self.stages:
            x = stage(x, training=training)
        return x

    def compute_output_shape(self, input_shape):
        for stage in self.stages:
            input_shape = stage.compute_output_shape(input_shape)
        return input_shape

    def named_layers(self):
        """Convolutions and batch normalisations by name, such as `conv2_block1_1_conv`; keras.applications' names."""
        units = []
        for stage in self.stages:
            units += [stage.stem] if stage.stem is not None else []
            for block in stage.blocks:
                units += block.units + ([block.shortcut] if block.shortcut is not None else [])
        return {layer.name: layer for unit in units for layer in (unit.conv, unit.bn)}

    def copy_statistics(self):
        """Gives every branch the frames' batch-norm statistics, as after loading the weights of an image model."""
        for layer in self.named_layers().values():
            if isinstance(layer, FusedBatchNormalization):
                layer.copy_statistics()

    def with_branches(self, branches):
        """This backbone if it has these branches, else a copy of it that has.

        Args:
            branches: stages after which maps join, see `StagedBackbone`.

        Returns:
            A `StagedBackbone` with at least these branches; in a copy, all of them start from the frames' statistics.
        """
        if set(branches) <= set(self.branches):
            return self
        copy = type(self).from_config({**self.get_config(), "branches": sorted({*self.branches, *branches})})
        if self.built:
            copy.build((None, *self.image_size, 3))
            copied = {variable.path.removeprefix(copy.path): variable for variable in copy.weights}
            for variable in self.weights:
                copied[variable.path.removeprefix(self.path)].assign(variable)
            copy.copy_statistics()
        # From whole to part, as setting it on a whole sets it on the parts.
        for mine, theirs in zip(copy._parts(), self._parts(), strict=True):
            mine.trainable = theirs.trainable
        return copy

    def _parts(self):
        return [self, *self.stages, *self.named_layers().values()]

    def load_pretrained(self, weights):
        """Loads weights: `"imagenet"` (resnet50_v1 only) or a file. Branches that it lacks get the frames' statistics.

        Args:
            weights: `"imagenet"`, a keras.applications file without top (`.h5`), or a file that
                `backbone.save_weights` wrote (`.weights.h5`).

        Raises:
            ValueError: if there is no such file, or it does not fit this architecture.
        """
        if weights == "imagenet":
            self._load_imagenet()
            return
        path = pathlib.Path(weights)
        if not path.is_file():
            raise ValueError(f"There is no weights file at this path. Received: weights={str(weights)!r}")
        try:
            if path.name.endswith(".weights.h5"):
                self.load_weights(path)
            else:
                self._copy_from_applications(str(path))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"This file does not fit {self.architecture} ({error}). Received: weights={str(weights)!r}"
            ) from error

    def _load_imagenet(self):
        try:
            self._copy_from_applications("imagenet")
        except ValueError:
            raise
        except Exception as error:  # Keras's download fails with whatever its HTTP stack raises.
            home = os.environ.get("KERAS_HOME") or pathlib.Path.home() / ".keras"
            folder = pathlib.Path(home) / "models"
            raise RuntimeError(
                f"The ImageNet weights could not be downloaded ({error}); put {IMAGENET_FILE} from the releases of "
                f"keras-applications into {folder}, or pass weights=None to start from random values. "
                f"Received: weights='imagenet'"
            ) from error

    def _copy_from_applications(self, weights):
        if self.architecture != "resnet50_v1" or self.width is not None:
            raise ValueError(
                "keras.applications has weights for resnet50_v1 at its own width only; build that, or give a "
                f".weights.h5 file of this architecture. "
                f"Received: architecture={self.architecture!r}, width={self.width!r}"
            )
        source = keras.applications.ResNet50(include_top=False, weights=weights, input_shape=(*self.image_size, 3))
        for name, layer in self.named_layers().items():
            values = source.get_layer(name).get_weights()
            for variable, value in zip(layer.weights[: len(values)], values, strict=True):
                variable.assign(value)
        self.copy_statistics()

    def get_config(self):
        config = super().get_config()
        config.update(
            architecture=self.architecture,
            image_size=self.image_size,
            last_stride=self.last_stride,
            width=self.width,
            stem_stride=self.stem_stride,
            branches=self.branches,
        )
        return config


def build(name, image_size=(256, 128), last_stride=2, weights=None, width=None, stem_stride=4, branches=(), **kwargs):
    """Makes a backbone, built and, if asked, with weights.

    Args:
        name: one of `resnet50`, `resnet50_v1`, `se_resnet50`, `resnet18`, `resnet_tiny`.
        image_size: `(height, width)` of the frames in pixels.
        last_stride: 1 or 2, the stride of conv5.
        weights: `None` for random, `"imagenet"`, or a file; see `StagedBackbone.load_pretrained`.
        width: channels of conv2, `None` for the architecture's own.
        stem_stride: 4, or 2 for a stem without pooling.
        branches: stages after which maps of another kind join; see `StagedBackbone`.
        **kwargs: base layer arguments.

    Returns:
        A built `StagedBackbone`.

    Raises:
        ValueError: for an unknown name or arguments that do not fit.
        RuntimeError: if the ImageNet weights cannot be downloaded.

    Example:

    >>> kreid.backbones.build("resnet18", image_size=(128, 64), width=32).count_params()
    2803680
    """
    backbone = StagedBackbone(name, image_size, last_stride, width, stem_stride, branches, **kwargs)
    backbone.build((None, *backbone.image_size, 3))
    if weights is not None:
        backbone.load_pretrained(weights)
    return backbone
