"""What every backbone has for the systems that run it: four stages that take images and frames alike."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import keras
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.layers.frame_preprocessing import PREPROCESSINGS


class MapStage(keras.layers.Layer):
    """Base of stages: takes single maps or the frames of tracklets.

    A subclass implements `run` and `run_shape` for single maps.

    Args:
        branches: the branches that pass this stage, see `Backbone`; 0 is the frames'.
        **kwargs: base layer arguments.

    Call arguments:
        x: maps.
        branch: the branch of the maps, one of `branches`.

    Input shape: `(batch, h, w, C)` or `(batch, frames, h, w, C)`.
    Output shape: the same rank.
    """

    def __init__(self, branches: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.branches = tuple(branches)

    def run(self, x: Tensor, training: bool | None, position: int) -> Tensor:
        """Return the maps of single maps, with the batch-norm statistics at a position among the stage's branches."""
        raise NotImplementedError(f"{type(self).__name__} must implement run().")

    def run_shape(self, shape: Shape) -> Shape:
        """Return the shape of `run`'s output."""
        raise NotImplementedError(f"{type(self).__name__} must implement run_shape().")

    def call(self, x: Tensor, training: bool | None = None, branch: int = 0) -> Tensor:
        if branch not in self.branches:
            raise ValueError(
                f"Stage {self.name} has batch-norm statistics for the branches {self.branches}; build the backbone "
                f"with more. Received: branch={branch!r}"
            )
        frames = ops.shape(x)[:2] if len(x.shape) == 5 else None
        if frames is not None:
            x = ops.reshape(x, (-1, *x.shape[2:]))
        x = self.run(x, training, self.branches.index(branch))
        return x if frames is None else ops.reshape(x, (*frames, *x.shape[1:]))

    @staticmethod
    def _fold_shape(shape: Shape) -> Shape:
        return (None, *shape[2:]) if len(shape) == 5 else tuple(shape)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        shape = self.run_shape(self._fold_shape(input_shape))
        return (*input_shape[:2], *shape[1:]) if len(input_shape) == 5 else shape

    def get_config(self) -> dict[str, Any]:
        """Refuse: stages are saved with their backbone, as they share its blocks.

        Raises:
            ValueError: always, with the way to copy a model whose graph runs stages itself.
        """
        raise ValueError(
            "A stage is copied with its backbone; copy the whole model by model.from_config(model.get_config()), then "
            f"set_weights. Received: stage={self.name!r}"
        )


class Backbone(keras.Model):
    """Base of backbones: an image network without its classifier, callable whole or stage by stage.

    `backbone(x)` runs all stages; `backbone.stages[i](x)` runs one with the same weights. Both take single images
    and the frames of tracklets. Every system of `kreid.models` takes any backbone.

    Attributes:
        stages: four layers, each called with maps and, by name, `branch`.
        image_size: `(height, width)` of the frames in pixels.
        output_size: `(h, w)` of the last maps.
        channels: of the last maps.
        preprocessing: how pixels are scaled for it, see `kreid.layers.FramePreprocessing`; the models of `kreid.models`
            do so.
        branches: stages (1 to 3) after which maps of another kind than frames' join, such as means over frames. They
            pass the following stages by `stage(x, branch=1)` for those that join after stage 1, with the same weights
            and separate moving batch-norm statistics. Frames are branch 0.

    Input shape: `(batch, H, W, 3)` or `(batch, frames, H, W, 3)`.
    Output shape: `(batch, h, w, C)` or `(batch, frames, h, w, C)`.

    Example:

    >>> backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32))
    >>> isinstance(backbone, kreid.backbones.Backbone), len(backbone.stages)
    (True, 4)
    """

    stages: list[Any]
    image_size: tuple[int, int]
    output_size: tuple[int, int]
    channels: int
    preprocessing: str
    branches: tuple[int, ...]

    @property
    def passport(self) -> dict[str, Any] | None:
        """Where the weights come from, as plain data; `None` for random ones."""
        return self.__dict__.get("_passport")

    @passport.setter
    def passport(self, passport: Mapping[str, Any] | None) -> None:
        # In __dict__ directly: Keras would wrap a dict.
        self.__dict__["_passport"] = None if passport is None else dict(passport)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        x = inputs
        for stage in self.stages:
            x = stage(x, training=training)
        return x

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        for stage in self.stages:
            input_shape = stage.compute_output_shape(input_shape)
        return input_shape

    def named_layers(self) -> dict[str, keras.layers.Layer]:
        """Return the layers with weights by name."""
        raise NotImplementedError(f"{type(self).__name__} must implement named_layers().")

    def copy_statistics(self) -> None:
        """Give every branch the frames' batch-norm statistics, as after loading the weights of an image model."""
        raise NotImplementedError(f"{type(self).__name__} must implement copy_statistics().")

    def branch_statistics(self) -> list[keras.Variable]:
        """Return the moving batch-norm statistics of all branches but the frames'."""
        raise NotImplementedError(f"{type(self).__name__} must implement branch_statistics().")

    def with_branches(self, branches: Iterable[int]) -> Self:
        """Return this backbone if it has these branches, else a copy with them.

        Args:
            branches: stages after which maps join, see `Backbone`.

        Returns:
            A backbone of the same class with at least these branches; in a copy, all of them start from the frames'
            statistics.
        """
        if set(branches) <= set(self.branches):
            return self
        copy = type(self).from_config({**self.get_config(), "branches": sorted({*self.branches, *branches})})
        if self.built:
            copy.build((None, *self.image_size, 3))
            copied = {variable.path.removeprefix(copy.path): variable for variable in copy.weights}
            for variable in self.weights:
                copied[variable.path.removeprefix(self.path)].assign(ops.copy(variable))
            copy.copy_statistics()
        # The whole first: setting it on a layer sets it on the layers inside.
        for mine, theirs in zip(copy._parts(), self._parts(), strict=True):
            mine.trainable = theirs.trainable
        return copy

    def _parts(self):
        return [self, *self.stages, *self.named_layers().values()]


def checked_branches(branches: Iterable[int]) -> tuple[int, ...]:
    """Return branches in order.

    Raises:
        ValueError: if one is not a stage from 1 to 3, or occurs twice.
    """
    branches = tuple(branches)
    if not set(branches) <= {1, 2, 3} or len(set(branches)) != len(branches):
        raise ValueError(f"Branches join after stage 1, 2 or 3, each once. Received: branches={branches!r}")
    return tuple(sorted(branches))


def checked_preprocessing(preprocessing: str) -> str:
    """Return the name of a way to scale pixels.

    Raises:
        ValueError: for an unknown one.
    """
    if preprocessing not in PREPROCESSINGS:
        raise ValueError(
            f"Pixels are scaled in one of the ways {', '.join(PREPROCESSINGS)}. "
            f"Received: preprocessing={preprocessing!r}"
        )
    return preprocessing


def branches_of_stage(index: int, branches: Sequence[int]) -> tuple[int, ...]:
    """Return the branches that pass the stage at an index from 0: those that joined before it, and the frames'."""
    return (0, *(branch for branch in branches if branch <= index))
