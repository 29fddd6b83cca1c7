"""Backbones made from any functional Keras network."""

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.backbones.base import Backbone, MapStage, branches_of_stage, checked_branches, checked_preprocessing

# Names of keras.applications' networks, and the pixels that their weights expect.
_PIXELS = (
    (r"resnet(50|101|152)v2|mobilenet(v2)?_\d.*|inception_v3|inception_resnet_v2|xception|nasnet", "tf"),
    (r"resnet(50|101|152)|vgg1[69]", "caffe"),
    (r"densenet(121|169|201)", "torch"),
)
_STRIDED = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "MaxPooling2D", "AveragePooling2D")


def from_keras(
    model: keras.Model,
    stages: Sequence[str],
    last_stride: int = 2,
    preprocessing: str | None = None,
    branches: Sequence[int] = (),
    passport: Mapping[str, Any] | None = None,
    name: str = "keras_backbone",
) -> "KerasBackbone":
    """Make a backbone from a functional Keras network, such as one of keras.applications or a backbone of keras-hub.

    The network is copied with its weights and cut into four stages. What follows the last stage is left out.

    Args:
        model: a functional model of one input `(batch, H, W, 3)` of fixed size, the frames': make it with, for example,
            `input_shape=(256, 128, 3)`.
        stages: names of the four layers that end the stages (`model.summary()` lists them). All that a stage reads must
            pass the layer before it. A stage ends in maps `(h, w, C)`, or in tokens `(N, C)` of square patches, whose
            maps are `(H / patch, W / patch, C)`. A class token before the patches' goes through the stages, whose maps
            are then `(1, N, C)`, and the last one leaves it out.
        last_stride: 2 leaves the network as it is; 1 takes the stride from the last convolution or pooling of the last
            stage that has one, which doubles the map's height and width.
        preprocessing: `"torch"`, `"caffe"`, `"tf"` or `"none"`, see `kreid.layers.FramePreprocessing`; `None` for the
            choice that keras.applications makes for its own networks.
        branches: see `Backbone`.
        passport: plain data on where the weights come from.
        name: of the backbone.

    Returns:
        A `KerasBackbone`.

    Raises:
        ValueError: for a model that is not functional, a layer that does not end a stage, a last stage without a
            stride to take, pixels that are not known, or batch normalisation within a model inside the network if
            there are branches.

    Example:

    >>> network = keras.applications.MobileNetV2((64, 32, 3), alpha=0.35, include_top=False, weights=None)
    >>> ends = ["block_2_add", "block_5_add", "block_12_add", "out_relu"]
    >>> backbone = kreid.backbones.from_keras(network, ends, last_stride=1)
    >>> backbone.output_size, backbone.channels, backbone.preprocessing
    ((4, 2), 1280, 'tf')
    >>> model = kreid.models.Baseline(backbone, num_identities=10)
    """
    if not isinstance(model, keras.Model) or not hasattr(model, "operations") or len(model.inputs) != 1:
        raise ValueError(
            "A backbone is made from a functional model of one input; make one with keras.Model(inputs, outputs). "
            f"Received: model={model!r}"
        )
    if last_stride not in (1, 2):
        raise ValueError(f"The last stage's stride must be 1 or 2. Received: last_stride={last_stride!r}")
    shape = tuple(model.inputs[0].shape[1:])
    if len(shape) != 3 or shape[-1] != 3 or None in shape:
        raise ValueError(
            "The network's input must be frames of fixed size with 3 channels last; make it with, for example, "
            f"input_shape=(256, 128, 3). Received: input shape {shape!r}"
        )
    stages = tuple(stages)
    if len(stages) != 4 or len(set(stages)) != 4:
        raise ValueError(f"Name the four layers that end the stages. Received: stages={stages!r}")
    if preprocessing is None:
        preprocessing = _pixels_of(model)
    copy = _copied(keras.Model(model.inputs, model.outputs, name=model.name), model)
    outputs = [_output(copy, end) for end in stages]
    network = keras.Model(copy.inputs, outputs[-1], name=model.name)
    if last_stride == 1:
        network = _without_last_stride(network, stages)
    return KerasBackbone(network, stages, preprocessing, branches, passport, name=name)


@keras.saving.register_keras_serializable(package="kreid")
class KerasBackbone(Backbone):
    """A functional Keras network as a backbone; `from_keras` makes it.

    Args:
        network: a functional model of images, which ends with the last stage; it is used, not copied.
        stages: see `from_keras`.
        preprocessing: see `from_keras`; here it must be given.
        branches: see `Backbone`.
        passport: see `from_keras`.
        **kwargs: base layer arguments. Layers keep the dtype policy of the network.

    Input shape: `(batch, H, W, 3)` or `(batch, frames, H, W, 3)`.
    Output shape: `(batch, h, w, C)` or `(batch, frames, h, w, C)`.

    Raises:
        ValueError: as `from_keras` does.

    Example:

    >>> frames = keras.Input((64, 32, 3))
    >>> x = frames
    >>> for number in range(1, 5):
    ...     x = keras.layers.Conv2D(8 * number, 3, 2, "same", activation="relu", name=f"conv{number}")(x)
    >>> network = keras.Model(frames, x)
    >>> backbone = kreid.backbones.KerasBackbone(network, ("conv1", "conv2", "conv3", "conv4"), "tf")
    >>> tuple(backbone(np.zeros((2, 5, 64, 32, 3))).shape)
    (2, 5, 4, 2, 32)
    """

    def __init__(
        self,
        network: keras.Model,
        stages: Sequence[str],
        preprocessing: str,
        branches: Sequence[int] = (),
        passport: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("name", "keras_backbone")
        trainable = kwargs.pop("trainable", None)
        super().__init__(**kwargs)
        # In __dict__ directly: its layers are tracked by the stages, in their order.
        self.__dict__["_network"] = network
        self.ends = tuple(stages)
        self.preprocessing = checked_preprocessing(preprocessing)
        self.branches = checked_branches(branches)
        self.passport = passport
        self.image_size = tuple(network.inputs[0].shape[1:3])
        cuts = [network.inputs[0], *(_output(network, end) for end in self.ends)]
        _check_cuts(network, self.ends)
        self.stages = [self._stage(index, cuts) for index in range(4)]
        *_, height, width, self.channels = self.compute_output_shape((None, *self.image_size, 3))
        self.output_size = (height, width)
        self.build((None, *self.image_size, 3))
        if trainable is not None:
            self.trainable = trainable

    def _stage(self, index: int, cuts: Sequence[Tensor]) -> "_NetworkStage":
        network = keras.Model(cuts[index], cuts[index + 1], name=f"network{index + 1}")
        branches = branches_of_stage(index, self.branches)
        networks = [network, *(_with_own_statistics(network, branch) for branch in branches[1:])]
        map_shape = _map_shape(self.ends[index], network.outputs[0].shape[1:], self.image_size, is_last=index == 3)
        return _NetworkStage(networks, map_shape, branches, dtype=self.dtype_policy, name=f"stage{index + 1}")

    def build(self, input_shape: Shape) -> None:
        """Name the weights by backbone and stage, as those of other backbones; the network's layers are built."""
        for stage in self.stages:
            stage.build(input_shape)
            for weight in stage.weights:
                if not weight.path.startswith(f"{stage.path}/"):
                    weight._path = f"{stage.path}/{weight.path}"

    def named_layers(self) -> dict[str, keras.layers.Layer]:
        """Return the network's layers with weights by name."""
        layers = {layer.name: layer for stage in self.stages for layer in stage.networks[0].layers}
        return {name: layer for name, layer in layers.items() if layer.weights}

    def _normalizations(self) -> list["_BranchNormalization"]:
        layers = [layer for stage in self.stages for network in stage.networks[1:] for layer in network.layers]
        return [layer for layer in layers if isinstance(layer, _BranchNormalization)]

    def copy_statistics(self) -> None:
        """Give every branch the frames' batch-norm statistics."""
        for layer in self._normalizations():
            for mine, theirs in zip(layer.non_trainable_variables, layer.source.non_trainable_variables, strict=True):
                mine.assign(ops.copy(theirs))

    def branch_statistics(self) -> list[keras.Variable]:
        """Return the moving batch-norm statistics of all branches but the frames'."""
        return [weight for layer in self._normalizations() for weight in layer.statistics]

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.update(
            network=keras.saving.serialize_keras_object(self.__dict__["_network"]),
            stages=self.ends,
            preprocessing=self.preprocessing,
            branches=self.branches,
            passport=self.passport,
        )
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None) -> "KerasBackbone":
        network = keras.saving.deserialize_keras_object(config["network"], custom_objects=custom_objects)
        return cls(**{**config, "network": network})


class _NetworkStage(MapStage):
    """One stage: a part of the network for each branch, which differ in the batch-norm statistics alone."""

    def __init__(
        self, networks: Sequence[keras.Model], map_shape: Shape, branches: Sequence[int], **kwargs: Any
    ) -> None:
        super().__init__(branches, **kwargs)
        self.networks = list(networks)
        self.map_shape = map_shape

    def build(self, input_shape: Shape) -> None:
        """Do nothing: the network's layers are built."""

    def run(self, x: Tensor, training: bool | None, position: int) -> Tensor:
        network = self.networks[position]
        given, made = network.inputs[0].shape, network.outputs[0].shape
        if len(given) == 3:  # The map is one of tokens.
            x = ops.reshape(x, (-1, *given[1:]))
        x = network(x, training=training)
        if len(made) == 3:
            tokens = math.prod(self.map_shape[:2])
            x = ops.reshape(x[:, -tokens:], (-1, *self.map_shape))
        return x

    def run_shape(self, shape: Shape) -> Shape:
        return (shape[0], *self.map_shape)


class _BranchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation with the scale and centre of another layer, and moving statistics of its own."""

    def __init__(self, source: keras.layers.BatchNormalization, branch: int) -> None:
        config = source.get_config()
        config.pop("branches", None)  # Of a FusedBatchNormalization.
        super().__init__(**{**config, "name": f"{source.name}_branch{branch}"})
        # In __dict__ directly: it is tracked as a layer of the frames' network.
        self.__dict__["source"] = source

    def add_weight(self, *args: Any, name: str | None = None, **kwargs: Any) -> keras.Variable:
        shared = {"gamma": self.source.gamma, "beta": self.source.beta}
        return shared[name] if name in shared else super().add_weight(*args, name=name, **kwargs)

    @property
    def statistics(self) -> list[keras.Variable]:
        shared = {id(self.source.gamma), id(self.source.beta)}
        return [weight for weight in self.weights if id(weight) not in shared]


def _with_own_statistics(network: keras.Model, branch: int) -> keras.Model:
    """Return a network of the same layers, but for batch normalisations with moving statistics of their own."""
    kind = keras.layers.BatchNormalization
    direct = {id(layer) for layer in network.layers if isinstance(layer, kind)}
    nested = [layer for layer in network._flatten_layers() if isinstance(layer, kind) and id(layer) not in direct]
    if nested:
        raise ValueError(
            "Batch normalisation within a layer or model inside the network has no separate statistics for branches, "
            "which fused maps need; make a network without models inside it. "
            f"Received: network with {nested[0].name!r} inside, branch={branch!r}"
        )

    def of_branch(operation):
        return _BranchNormalization(operation, branch) if isinstance(operation, kind) else operation

    return keras.models.clone_model(network, clone_function=of_branch)


# --- The network's graph


def _copied(network: keras.Model, source: keras.Model, config: dict[str, Any] | None = None) -> keras.Model:
    """Return a copy of a plain functional model, with the weights of `source`, or of its changed config."""
    copy = keras.Model.from_config(network.get_config() if config is None else config)
    copy.set_weights(source.get_weights())
    return copy


def _output(network: keras.Model, name: str) -> Tensor:
    """Return the output of an operation of a network."""
    operations = {operation.name: operation for operation in network.operations}
    if name not in operations:
        near = difflib.get_close_matches(str(name), operations, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"The network {network.name} has no layer of this name.{hint} Received: stages with {name!r}")
    try:
        # Not `operation.output`, which of a model inside the network is an output inside that model.
        output = keras.Operation.output.fget(operations[name])
    except (ValueError, AttributeError):
        output = None
    if not hasattr(output, "shape"):
        raise ValueError(
            "A layer that is called several times, or has several outputs, ends no stage; choose another. "
            f"Received: stages with {name!r}"
        )
    return output


def _parents(network: keras.Model) -> dict[str, list[str]]:
    """Return the names of the operations whose outputs each operation of a network reads."""

    def names(part: Any) -> Iterable[str]:
        if isinstance(part, dict):
            history = (
                part.get("config", {}).get("keras_history") if part.get("class_name") == "__keras_tensor__" else None
            )
            if history:
                yield history[0]
            else:
                for value in part.values():
                    yield from names(value)
        elif isinstance(part, (list, tuple)):
            for value in part:
                yield from names(value)

    return {layer["name"]: list(names(layer["inbound_nodes"])) for layer in network.get_config()["layers"]}


def _stage_members(parents: Mapping[str, list[str]], end: str, start: str | None) -> set[str]:
    """Return the operations that the output of `end` depends on, without going back beyond `start`."""
    members, waiting = set(), [end]
    while waiting:
        name = waiting.pop()
        if name not in members and name != start:
            members.add(name)
            waiting += parents[name]
    return members


def _check_cuts(network: keras.Model, ends: Sequence[str]) -> None:
    """Check that everything that a stage reads passes the end of the stage before."""
    parents = _parents(network)
    before: set[str] = set()
    for number, (start, end) in enumerate(zip((None, *ends), ends, strict=False), 1):
        members = _stage_members(parents, end, start)
        read = {parent for name in members - before for parent in parents[name]}
        around = sorted(read & (before - {start}))
        if around or (start is not None and start not in read):
            named = ", ".join(around[:3] or sorted(read)[:3]) or "none of them"
            raise ValueError(
                f"Stage {number} must read the end of the stage before and nothing else: stages end, in order, where "
                f"everything passes one layer, such as the addition of a residual block. Received: "
                f"stages={tuple(ends)!r}, where stage {number} reads {named}"
            )
        before |= members


def _map_shape(end: str, shape: Shape, image_size: Sequence[int], is_last: bool) -> Shape:
    """Return the shape `(h, w, C)` of a stage's maps, from its output without the batch."""
    if len(shape) == 3:
        return tuple(shape)
    if len(shape) == 2 and shape[0] is not None:
        tokens, channels = shape
        if grid := _grid(tokens, image_size):
            return (*grid, channels)
        if grid := _grid(tokens - 1, image_size):
            return (*grid, channels) if is_last else (1, tokens, channels)
    raise ValueError(
        "A stage ends in maps (h, w, C), or in tokens (N, C) of square patches of the frames, with one class token "
        f"before them or none. Received: stages with {end!r} of output shape {tuple(shape)!r} for frames of "
        f"{tuple(image_size)!r}"
    )


def _grid(tokens: int, image_size: Sequence[int]) -> tuple[int, int] | None:
    """Return the rows and columns of square patches, if this many fill the image."""
    height, width = image_size
    patch = math.isqrt(height * width // tokens) if tokens > 0 else 0
    if not patch or height % patch or width % patch or (height // patch) * (width // patch) != tokens:
        return None
    return height // patch, width // patch


def _without_last_stride(network: keras.Model, stages: Sequence[str]) -> keras.Model:
    """Return a copy of a network whose last stage halves its maps once less."""
    parents = _parents(network)
    config = network.get_config()
    layers = {layer["name"]: layer for layer in config["layers"]}
    members = _stage_members(parents, stages[3], stages[2])

    # The last ones on each way to the output: the convolutions of a block and of its shortcut stand side by side.
    last, seen, waiting = [], set(), [stages[3]]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in members:
            continue
        seen.add(name)
        if _strided(layers[name]) is not None:
            last.append(name)
        else:
            waiting += parents[name]
    refusal = (
        "The last stage's stride cannot be taken out of this network ({}); give last_stride=2, which leaves it as it "
        f"is. Received: last_stride=1 for {network.name}"
    )
    if not last:
        raise ValueError(refusal.format("no convolution or pooling there, outside of models inside it, has a stride"))
    for name in last:
        _give_stride_1(layers, parents, name)
    try:
        copy = _copied(network, network, config)
    except ValueError as error:
        raise ValueError(refusal.format(next(iter(str(error).splitlines()), ""))) from None
    before, after = network.outputs[0].shape[1:3], copy.outputs[0].shape[1:3]
    if any(new <= old for new, old in zip(after, before, strict=True)):
        raise ValueError(refusal.format(f"maps of {after} pixels instead of {before} would come out"))
    return copy


def _strided(layer: dict[str, Any]) -> dict[str, Any] | None:
    """Return the last convolution or pooling with a stride, by config: the layer, or one inside a `Sequential`."""
    if layer["class_name"] == "Sequential":
        return next(filter(None, map(_strided, reversed(layer["config"]["layers"]))), None)
    strides = layer["config"].get("strides")
    return layer if layer["class_name"] in _STRIDED and max(keras.tree.flatten(strides)) > 1 else None


def _give_stride_1(layers: Mapping[str, dict[str, Any]], parents: Mapping[str, list[str]], name: str) -> None:
    """Change the config of a convolution or pooling, so that its map keeps its size."""
    layer = _strided(layers[name])
    assert layer is not None
    if layer is layers[name]:
        before, readers = layers[parents[name][0]], sum(parents[name][0] in read for read in parents.values())
    else:
        inside = layers[name]["config"]["layers"]
        before, readers = inside[[part is layer for part in inside].index(True) - 1], 1
    config = layer["config"]
    config["strides"] = 1
    if config["padding"] == "same":
        return
    if before["class_name"] == "ZeroPadding2D" and readers == 1:
        kernel = keras.tree.flatten(config.get("kernel_size") or config.get("pool_size"))
        before["config"]["padding"] = [[(size - 1) // 2, size // 2] for size in kernel]
    else:
        config["padding"] = "same"


def _pixels_of(model: keras.Model) -> str:
    """Return the preprocessing of a network of keras.applications."""
    scaling = (keras.layers.Rescaling, keras.layers.Normalization)
    if any(isinstance(layer, scaling) for layer in model._flatten_layers()):
        return "none"
    for pattern, pixels in _PIXELS:
        if re.fullmatch(pattern, model.name.lower()):
            return pixels
    raise ValueError(
        "How this network's weights expect pixels is not known; give preprocessing='torch', 'caffe', 'tf' or 'none' "
        f"(see kreid.layers.FramePreprocessing). Received: preprocessing=None for {model.name!r}"
    )
