"""Image networks in four stages, of every architecture."""

import difflib
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kreid._files import replacing
from kreid._typing import Shape, Tensor
from kreid.backbones import alexnet, inception, keras_files, mobilenet, osnet, resnet
from kreid.backbones.base import Backbone, MapStage, branches_of_stage, checked_branches, checked_preprocessing
from kreid.backbones.checkpoint_names import FAST_REID
from kreid.backbones.checkpoints import (
    SUFFIXES,
    file_passport,
    load_checkpoint,
    load_tensors,
    starting_weights,
    write_passport,
)
from kreid.backbones.keras_files import is_own_file
from kreid.backbones.normalization import FusedBatchNormalization

ARCHITECTURES = {
    **resnet.ARCHITECTURES,
    "inception_v3": inception.InceptionV3(),
    "alexnet": alexnet.AlexNet(),
    "mobilenet_v2": mobilenet.MobileNetV2(),
    "mobilenet_v2_keras": mobilenet.MobileNetV2(of_keras=True),
    "osnet_x1_0": osnet.OSNet(64),
    "osnet_x0_25": osnet.OSNet(16),
}


class Stage(MapStage):
    """One stage of a `StagedBackbone`.

    Args:
        blocks: its layers, in order, each called with `training` and `branch`.
        stem: the unit before conv2 (first stage only).
        pool: max pooling of 3x3 pixels and stride 2 follows the stem, with padding on each side.
        branches: see `MapStage`.
        **kwargs: base layer arguments.
    """

    def __init__(self, blocks, stem=None, pool=False, branches=(0,), **kwargs):
        super().__init__(branches, **kwargs)
        self.stem = stem
        self.pool = pool
        # The pooling starts at the first pixel, as fast-reid's; at an even size it ends one pixel beyond the last.
        self.pool_from_first = False
        self.blocks = blocks

    def build(self, input_shape: Shape) -> None:
        shape = self._fold_shape(input_shape)
        if self.stem is not None:
            self.stem.build(shape)
            shape = self.stem_output_shape(shape)
        for block in self.blocks:
            block.build(shape)
            shape = block.compute_output_shape(shape)

    def stem_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape after the stem and its pooling."""
        batch, *size, channels = self.stem.compute_output_shape(input_shape)
        if self.pool:
            size = [None if s is None else (s + (not self.pool_from_first)) // 2 for s in size]
        return (batch, *size, channels)

    def run(self, x: Tensor, training: bool | None, position: int) -> Tensor:
        if self.stem is not None:
            x = self.stem(x, training=training, branch=position)
        if self.pool:
            # Zeros cannot win over activations that passed a ReLU, so zero padding equals padding with minus infinity.
            before = 0 if self.pool_from_first else 1
            x = ops.pad(x, [(0, 0), (before, 1), (before, 1), (0, 0)])
            x = ops.max_pool(x, 3, strides=2, padding="valid")
        for block in self.blocks:
            x = block(x, training=training, branch=position)
        return x

    def run_shape(self, shape: Shape) -> Shape:
        if self.stem is not None:
            shape = self.stem_output_shape(shape)
        for block in self.blocks:
            shape = block.compute_output_shape(shape)
        return shape


@keras.saving.register_keras_serializable(package="kreid")
class StagedBackbone(Backbone):
    """An image network without its classifier, callable whole or stage by stage.

    `backbone(x)` runs all stages; `backbone.stages[i](x)` runs one with the same weights. Both take single images
    and the frames of tracklets. Pixels are expected scaled as `backbone.preprocessing` says (see
    `kreid.layers.FramePreprocessing`); the models of `kreid.models` do that themselves.

    Args:
        architecture: one of `resnet50`, `resnet50_v1`, `resnet50_ibn_a`, `se_resnet50`, `resnet34`, `resnet18`,
            `resnet_tiny`, `mobilenet_v2`, `mobilenet_v2_keras`, `osnet_x1_0`, `osnet_x0_25`, `inception_v3`, `alexnet`.
        image_size: `(height, width)` of the frames in pixels.
        last_stride: 1 or 2, the stride of the last stage: of conv5, of Inception's last reduction, of AlexNet's last
            pooling. 1 doubles the map's height and width.
        width: channels of conv2, or of the first convolution of MobileNetV2, Inception and AlexNet; `None` for the
            architecture's own. Halving it quarters the weights.
        stem_stride: 4 as published (a convolution of stride 2 and max pooling), or, of residual networks and
            MobileNetV2, 2 without the second: maps are then twice as high and wide, which suits frames of half the
            papers' size.
        branches: stages (1 to 3) after which maps of another kind than frames' join, such as means over frames. They
            pass the following stages by `stage(x, branch=1)` for those that join after stage 1, with the same weights
            and separate moving batch-norm statistics. Frames are branch 0.
        passport: plain data on where the weights come from; `load_pretrained` writes it, and saved models keep it.
        preprocessing: how pixels are scaled, for weights that were trained on others than the architecture's published
            ones: `"torch"`, `"caffe"`, `"tf"` or `"none"` (see `kreid.layers.FramePreprocessing`); `None` for those.
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
    Networks, 2018 (`se_resnet50`; the gate follows the last batch normalisation, reduction 16); Pan et al., Two at
    Once: Enhancing Learning and Generalization Capacities via IBN-Net, 2018 (`resnet50_ibn_a`); Szegedy et al.,
    Rethinking the Inception Architecture for Computer Vision, 2016; Krizhevsky, One weird trick for parallelizing
    convolutional neural networks, 2014 (`alexnet`, the one column); Sandler et al., MobileNetV2, 2018;
    Zhou et al., Omni-Scale Feature Learning for Person Re-Identification, 2019 (`osnet_x1_0`, `osnet_x0_25`: the last
    stride is that of the last pooling, 2 as published). `last_stride=1` follows the STA and MG-RAFA papers.
    Without weights, convolutions start from He's fan-out initialisation and the residual branches are not scaled down.
    """

    def __init__(
        self,
        architecture,
        image_size=(256, 128),
        last_stride=2,
        width=None,
        stem_stride=4,
        branches=(),
        passport=None,
        preprocessing=None,
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
        arch = ARCHITECTURES[architecture]
        if stem_stride not in arch.stem_strides:
            raise ValueError(
                f"The stem's stride of {architecture} must be {' or '.join(map(str, arch.stem_strides))}. "
                f"Received: stem_stride={stem_stride!r}"
            )
        if len(image_size) != 2 or min(image_size) < arch.smallest:
            raise ValueError(
                f"Frames of {architecture} must be at least {arch.smallest} pixels high and wide, given as (height, "
                f"width). Received: image_size={image_size!r}"
            )
        if width is not None and (width < 8 or width % 8):
            raise ValueError(f"The width must be a positive multiple of 8. Received: width={width!r}")
        branches = checked_branches(branches)
        self.architecture = architecture
        self.image_size = tuple(int(s) for s in image_size)
        self.last_stride = last_stride
        self.width = width
        self.stem_stride = stem_stride
        self.branches = branches
        self.passport = passport
        self.preprocessing = arch.preprocessing if preprocessing is None else checked_preprocessing(preprocessing)
        self.__dict__["_pixels_given"] = preprocessing is not None
        self.stages = [self._stage(index, arch) for index in range(4)]
        self._pool_as_trained()
        # Set `trainable` last: Keras passes it only to layers that exist.
        self.trainable = trainable

    @property
    def passport(self) -> dict[str, Any] | None:
        """Where the weights come from, as plain data; `None` for random ones. It decides how the stem pools."""
        return Backbone.passport.fget(self)  # type: ignore[attr-defined]

    @passport.setter
    def passport(self, passport: Mapping[str, Any] | None) -> None:
        Backbone.passport.fset(self, passport)  # type: ignore[attr-defined]
        if hasattr(self, "stages"):
            self._pool_as_trained()

    def _pool_as_trained(self):
        self.stages[0].pool_from_first = bool(self.passport) and self.passport.get("layout") == FAST_REID
        *_, height, width, self.channels = self.compute_output_shape((None, *self.image_size, 3))
        self.output_size = (height, width)

    def _stage(self, index, arch):
        policy = self.dtype_policy
        branches = branches_of_stage(index, self.branches)
        width = self.width or arch.width
        blocks, *stem = arch.stage(index, width, self.last_stride, self.stem_stride, len(branches), policy)
        return Stage(blocks, *stem, branches, dtype=policy, name=arch.stage_names[index])

    def build(self, input_shape: Shape) -> None:
        for stage in self.stages:
            stage.build(input_shape)
            input_shape = stage.compute_output_shape(input_shape)

    def named_layers(self) -> dict[str, keras.layers.Layer]:
        """Return convolutions and normalisations by name, such as `conv2_block1_1_conv`.

        A residual network has keras.applications' names; Inception's numbers count as there, from 0.
        """
        units = []
        for stage in self.stages:
            units += [stage.stem] if stage.stem is not None else []
            for block in stage.blocks:
                units += block.all_units()
        return {layer.name: layer for unit in units for layer in unit.weighted_layers()}

    def named_gates(self) -> dict[str, keras.layers.Dense]:
        """Return the Dense layers of squeeze-and-excitation gates by name, such as `conv2_block1_se_squeeze`."""
        gated = [block for stage in self.stages for block in stage.blocks if getattr(block, "gate", None) is not None]
        return {
            f"{block.name}_se_{name}": getattr(block.gate, name) for block in gated for name in ("squeeze", "excite")
        }

    def copy_statistics(self) -> None:
        """Give every branch the frames' batch-norm statistics, as after loading the weights of an image model."""
        for layer in self.named_layers().values():
            if isinstance(layer, FusedBatchNormalization):
                layer.copy_statistics()

    def branch_statistics(self) -> list[keras.Variable]:
        """Return the moving batch-norm statistics of all branches but the frames'."""
        normalizations = [layer for layer in self.named_layers().values() if isinstance(layer, FusedBatchNormalization)]
        return [weight for layer in normalizations for branch in layer.statistics[1:] for weight in branch]

    def load_pretrained(self, weights: str | os.PathLike[str], licence: str | None = None) -> None:
        """Load weights. Branches missing there get the frames' statistics.

        A file that `save_pretrained` wrote says which pixels its weights expect.

        Args:
            weights: `"imagenet"` (`resnet50_v1`, `inception_v3`, and `mobilenet_v2_keras` at the widths 16, 24 and 32),
                a file that `save_pretrained` wrote (`.weights.h5`), or a checkpoint of another project: see
                `load_checkpoint`.
            licence: of the weights, for the passport; `None` for what the file says, if anything.

        Raises:
            ValueError: if there is no such file, or it does not fit this architecture or the pixels given.
            ImportError: for a `.pth` file without PyTorch.
        """
        if weights == "imagenet":
            self._load_imagenet(licence)
            return
        path = pathlib.Path(weights)
        if not path.is_file():
            raise ValueError(f"There is no weights file at this path. Received: weights={str(weights)!r}")
        if is_own_file(path):
            self._load_own(path, licence)
        elif path.suffix in SUFFIXES:
            load_checkpoint(self, path, licence=licence)
        else:
            raise ValueError(
                f"Weights are read from files named {', '.join(f'*{suffix}' for suffix in SUFFIXES)}. "
                f"Received: weights={str(weights)!r}"
            )

    def _load_own(self, path, licence):
        passport = file_passport(path, self.preprocessing)
        if self.__dict__["_pixels_given"] and passport["preprocessing"] != self.preprocessing:
            raise ValueError(
                f"The file says that its weights expect pixels scaled by {passport['preprocessing']!r}; leave the "
                f"choice to it. Received: preprocessing={self.preprocessing!r}, weights={str(path)!r}"
            )
        try:
            self.load_weights(path)
        except (OSError, ValueError) as error:
            reason = str(error).partition(".")[0].partition("\n")[0]
            raise ValueError(
                f"The file holds a backbone of another architecture, width or branches than this one ({reason}). "
                f"Received: weights={str(path)!r} for {self.architecture} of width={self.width!r}, "
                f"branches={self.branches!r}"
            ) from None
        broken = [weight.path for weight in self.weights if not np.isfinite(ops.convert_to_numpy(weight)).all()]
        if broken:
            raise ValueError(
                f"{len(broken)} weights, such as {broken[0]}, have values that are NaN or infinite. "
                f"Received: weights={str(path)!r}"
            )
        self.preprocessing = passport["preprocessing"]
        self.passport = passport if licence is None else {**passport, "licence": licence}

    def save_pretrained(self, path: str | os.PathLike[str]) -> None:
        """Save the weights and the passport for `load_pretrained`.

        Args:
            path: of the file, `.weights.h5`.
        """
        with replacing(path) as temporary:
            self.save_weights(temporary)
            if self.passport:
                write_passport(temporary, self.passport)

    def _load_imagenet(self, licence):
        arch = ARCHITECTURES[self.architecture]
        published = arch.published(self.width or arch.width)
        if published is None:
            with_weights = (name for name, other in ARCHITECTURES.items() if other.published(other.width))
            raise ValueError(
                f"Keras has ImageNet's weights for {', '.join(with_weights)} at their own widths; build one of those, "
                f"or give a file of this architecture. Received: weights='imagenet' for "
                f"architecture={self.architecture!r}, width={self.width!r}"
            )
        try:
            source = published.make()
        except Exception as error:  # Keras's download raises any error of its HTTP stack.
            home = os.environ.get("KERAS_HOME") or pathlib.Path.home() / ".keras"
            folder = pathlib.Path(home) / "models"
            raise RuntimeError(
                f"The ImageNet weights could not be downloaded ({error}); put {published.file} from the releases of "
                f"keras-applications into {folder}, or pass weights=None to start from random values. "
                f"Received: weights='imagenet'"
            ) from error
        load_tensors(self, keras_files.tensors_of(source), "weights='imagenet'")
        self.passport = starting_weights("imagenet", "keras.applications", self.preprocessing, licence=licence)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.update(
            architecture=self.architecture,
            image_size=self.image_size,
            last_stride=self.last_stride,
            width=self.width,
            stem_stride=self.stem_stride,
            branches=self.branches,
            passport=self.passport,
            preprocessing=self.preprocessing,
        )
        return config


def build(
    name: str,
    image_size: Sequence[int] = (256, 128),
    last_stride: int = 2,
    weights: str | os.PathLike[str] | None = None,
    width: int | None = None,
    stem_stride: int = 4,
    branches: Sequence[int] = (),
    preprocessing: str | None = None,
    licence: str | None = None,
    **kwargs: Any,
) -> StagedBackbone:
    """Make a backbone, build it and load weights if requested.

    Args:
        name: of an architecture, see `StagedBackbone`.
        image_size: `(height, width)` of the frames in pixels.
        last_stride: 1 or 2, the stride of the last stage.
        weights: `None` for random, `"imagenet"`, or a file; see `StagedBackbone.load_pretrained`.
        width: channels of the first stage, `None` for the architecture's own.
        stem_stride: 4, or 2 for a stem without pooling.
        branches: stages after which maps of another kind join; see `StagedBackbone`.
        preprocessing: how pixels are scaled, `None` for the architecture's own or what the file says.
        licence: of the weights, for the passport.
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
    kwargs["preprocessing"] = preprocessing
    backbone = StagedBackbone(name, image_size, last_stride, width, stem_stride, branches, **kwargs)
    backbone.build((None, *backbone.image_size, 3))
    if weights is not None:
        backbone.load_pretrained(weights, licence)
    return backbone
