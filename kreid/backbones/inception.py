"""Inception v3."""

import itertools
from typing import Any

import keras
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.backbones.parts import ConvolutionUnit, Pool, Published

# A module is a list of chains side by side, whose steps are: `(channels, height, width of the kernel)`, a convolution
# of stride 1; `_POOL`, average pooling of stride 1; `(channels, _REDUCE)` and `_REDUCE`, a convolution of 3x3 and
# maximum pooling, both of stride 2; or a list of chains. Channels are those at width 32.
_REDUCE = "reduce"
_POOL = "pool"


def _mixed_35(pooled):
    """Figure 5."""
    return [
        [(64, 1, 1)],
        [(48, 1, 1), (64, 5, 5)],
        [(64, 1, 1), (96, 3, 3), (96, 3, 3)],
        [_POOL, (pooled, 1, 1)],
    ]


def _mixed_17(inner):
    """Figure 6, with n = 7."""
    return [
        [(192, 1, 1)],
        [(inner, 1, 1), (inner, 1, 7), (192, 7, 1)],
        [(inner, 1, 1), (inner, 7, 1), (inner, 1, 7), (inner, 7, 1), (192, 1, 7)],
        [_POOL, (192, 1, 1)],
    ]


def _mixed_8():
    """Figure 7."""
    fork = [[(384, 1, 3)], [(384, 3, 1)]]
    return [
        [(320, 1, 1)],
        [(384, 1, 1), fork],
        [(448, 1, 1), (384, 3, 3), fork],
        [_POOL, (192, 1, 1)],
    ]


REDUCTIONS = (
    [[(384, _REDUCE)], [(64, 1, 1), (96, 3, 3), (96, _REDUCE)], [_REDUCE]],
    [[(192, 1, 1), (320, _REDUCE)], [(192, 1, 1), (192, 1, 7), (192, 7, 1), (192, _REDUCE)], [_REDUCE]],
)
# Each stage, by the modules that keras.applications names mixed0 to mixed10.
MODULES: tuple[dict[str, list], ...] = (
    {},
    {"mixed0": _mixed_35(32), "mixed1": _mixed_35(64), "mixed2": _mixed_35(64)},
    {
        "mixed3": REDUCTIONS[0],
        "mixed4": _mixed_17(128),
        "mixed5": _mixed_17(160),
        "mixed6": _mixed_17(160),
        "mixed7": _mixed_17(192),
    },
    {"mixed8": REDUCTIONS[1], "mixed9": _mixed_8(), "mixed10": _mixed_8()},
)
_IMAGENET_FILE = "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"
# Convolutions before each stage.
FIRST_NUMBER = (0, 3, 26, 70)


class InceptionV3:
    """Szegedy et al. (2016) as keras.applications has it, without the auxiliary classifier.

    Its four stages end where the map has a fourth, an eighth, a sixteenth and a thirty-second of the frame's size.
    """

    width = 32
    preprocessing = "tf"
    smallest = 75
    stem_strides = (4,)
    stage_names = ("stem", "mixed0_2", "mixed3_7", "mixed8_10")

    def stage(self, index: int, width: int, last_stride: int, stem_stride: int, branches: int, policy: Any) -> tuple:
        """Return the blocks of a stage; it has no stem and no pooling before them."""
        numbers = itertools.count(FIRST_NUMBER[index])
        stride = last_stride if index == 3 else 2

        def unit(channels, size, *arguments):
            filters, number = channels * width // 32, next(numbers)
            return ConvolutionUnit(filters, size, *arguments, 1e-3, branches, number, dtype=policy)

        def made(step, name):
            # With stride 1 the map keeps its size, as it would halve with stride 2.
            reducing = (stride, "valid" if stride == 2 else "same")
            if isinstance(step, list):
                chains = []
                for number, chain in enumerate(step):
                    prefix = f"{name}_{number}"
                    steps = [made(part, prefix) for part in chain]
                    chains.append(_Chain(steps, dtype=policy, name=prefix))
                return _Fork(chains, dtype=policy, name=name)
            if step == _POOL:
                return Pool("average", 1, "same", dtype=policy, name=f"{name}_pool")
            if step == _REDUCE:
                return Pool("max", *reducing, dtype=policy, name=f"{name}_pool")
            if step[1] == _REDUCE:
                return unit(step[0], 3, *reducing)
            return unit(step[0], step[1:], 1, "same")

        blocks = []
        if index == 0:
            blocks = [unit(32, 3, 2, "valid"), unit(32, 3, 1, "valid"), unit(64, 3, 1, "same")]
        if index == 1:
            blocks = [unit(80, 1, 1, "valid"), unit(192, 3, 1, "valid")]
        if index < 2:
            blocks.append(Pool(dtype=policy, name="pool"))
        blocks += [made(module, name) for name, module in MODULES[index].items()]
        return blocks, None, False

    def published(self, width: int) -> Published | None:
        """Return ImageNet's weights at a width, if Keras has them."""
        if width != self.width:
            return None
        arguments = {"include_top": False, "input_shape": (224, 224, 3)}
        return Published(_IMAGENET_FILE, lambda: keras.applications.InceptionV3(**arguments))


class _Chain(keras.layers.Layer):
    """Steps one after the other."""

    def __init__(self, steps, **kwargs):
        super().__init__(**kwargs)
        self.steps = steps

    def all_units(self) -> list:
        return [unit for step in self.steps for unit in step.all_units()]

    def build(self, input_shape: Shape) -> None:
        for step in self.steps:
            step.build(input_shape)
            input_shape = step.compute_output_shape(input_shape)

    def call(self, x: Tensor, training: bool | None = None, branch: int = 0) -> Tensor:
        for step in self.steps:
            x = step(x, training=training, branch=branch)
        return x

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        for step in self.steps:
            input_shape = step.compute_output_shape(input_shape)
        return input_shape


class _Fork(keras.layers.Layer):
    """Chains side by side, their channels concatenated."""

    def __init__(self, chains, **kwargs):
        super().__init__(**kwargs)
        self.chains = chains

    def all_units(self) -> list:
        return [unit for chain in self.chains for unit in chain.all_units()]

    def build(self, input_shape: Shape) -> None:
        for chain in self.chains:
            chain.build(input_shape)

    def call(self, x: Tensor, training: bool | None = None, branch: int = 0) -> Tensor:
        return ops.concatenate([chain(x, training=training, branch=branch) for chain in self.chains], axis=-1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        shapes = [chain.compute_output_shape(input_shape) for chain in self.chains]
        return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))
