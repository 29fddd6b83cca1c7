"""Weights of other projects' image networks: read their checkpoints, and find the place of every tensor.

A checkpoint is a dict of tensors by name. Each project names the same convolutions in its own way, a *layout*: a
function from a layer's name here to the module's name there. The layout that explains most tensors is taken, and then
every tensor must have its place: nothing is loaded in part without a word.
"""

import dataclasses
import fnmatch
import json
import os
import pathlib
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import h5py
import keras
import numpy as np

from kreid._files import check_unpacked_size, file_digest
from kreid.backbones import keras_files
from kreid.backbones.checkpoint_names import FAST_REID, KERAS, LAYOUTS, Layout, is_of_fast_reid

if typing.TYPE_CHECKING:
    from kreid.backbones.staged import StagedBackbone

SUFFIXES = (".safetensors", ".pth", ".pt", ".tar", ".bin", *keras_files.SUFFIXES)

# Names around the network's own, in checkpoints of torchreid, fast-reid, Lightning and of parallel training.
_WRAPPERS = ("state_dict", "model", "model_state_dict", "network")
_PREFIXES = ("module.", "backbone.", "model.", "base.", "encoder.")
# Counters, and constants of fast-reid's input, which `kreid.layers.FramePreprocessing` has.
_IGNORED = ("*num_batches_tracked", "pixel_mean", "pixel_std")
# What stands behind the pooled maps: other persons or other classes than yours.
_CLASSIFIERS = (
    "fc.*",
    "classifier.*",
    "heads.*",
    "head.*",
    "last_linear.*",
    "bottleneck.*",
    "bnneck.*",
    *("predictions/*", "fc/*", "logits/*", "classifier/*", "head/*", "dense/*", "dense_[0-9]*/*"),
)
_NAMED_AT_ONCE = 12
_ATTRIBUTE = "kreid_passport"


@dataclasses.dataclass(frozen=True)
class Conversion:
    """How the tensors of a checkpoint were placed.

    Args:
        layout: name of the project whose names the file has, such as `"torchvision"`.
        placed: how many tensors have a place in the backbone.
        left_out: names of tensors outside the backbone, such as the classifier's.
        file: name of the file.
        sha256: of its content, `None` for a network in memory.
        preprocessing: how pixels are scaled for the weights, see `kreid.layers.FramePreprocessing`.
        licence: of the weights, `None` if unknown.
        matched: where each tensor went: the path of the backbone's weight by the tensor's name.

    Example:

    >>> left_out = ("fc.bias", "fc.weight")
    >>> conversion = kreid.backbones.Conversion("timm", 2, left_out, "resnet18.safetensors", "0a1b", "torch")
    >>> conversion.passport["weights"], conversion.passport["preprocessing"]
    ('resnet18.safetensors', 'torch')
    """

    layout: str
    placed: int
    left_out: tuple[str, ...]
    file: str
    sha256: str | None
    preprocessing: str
    licence: str | None = None
    matched: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def passport(self) -> dict[str, Any]:
        """Where the weights come from, as plain data for a saved model."""
        return starting_weights(self.file, self.layout, self.preprocessing, self.sha256, self.licence)


def starting_weights(
    weights: str, layout: str, preprocessing: str, sha256: str | None = None, licence: str | None = None
) -> dict[str, Any]:
    """Return the passport of a backbone, as plain data.

    Args:
        weights: name of the file, or `"imagenet"`.
        layout: whose names it has.
        preprocessing: how pixels are scaled for the weights.
        sha256: of the file.
        licence: of the weights, `None` if unknown.
    """
    return {
        "weights": weights,
        "sha256": sha256,
        "layout": layout,
        "preprocessing": preprocessing,
        "licence": licence,
    }


def file_passport(path: pathlib.Path, preprocessing: str) -> dict[str, Any]:
    """Return the passport that `write_passport` put into a weights file of kreid, or the file's name and digest."""
    with h5py.File(path) as file:
        passport = file.attrs.get(_ATTRIBUTE)
    known = starting_weights(path.name, "kreid", preprocessing, file_digest(path))
    return {**known, **json.loads(passport)} if passport else known


def write_passport(path: str | os.PathLike[str], passport: Mapping[str, Any]) -> None:
    """Put a passport into a weights file of Keras, which may have no other place for it."""
    with h5py.File(path, "a") as file:
        file.attrs[_ATTRIBUTE] = json.dumps(passport)


def read_tensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read the tensors of a checkpoint by name. No code in the file is run.

    Args:
        path: a `.safetensors` file; a file that PyTorch wrote (`.pth`, `.pt`, `.tar`, `.bin`), which needs PyTorch; or
            a file that Keras wrote (`.keras`, `.h5`).

    Returns:
        A dict of arrays.

    Raises:
        ValueError: if the file is damaged, unpacks to more than it is, or holds anything but tensors and plain data.
        ImportError: without PyTorch for its files.

    Example:

    >>> import tempfile
    >>> from safetensors.numpy import save_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_file({"conv1.weight": np.zeros((8, 3, 7, 7), "float32")}, f"{folder}/file.safetensors")
    ...     tensors = kreid.backbones.read_tensors(f"{folder}/file.safetensors")
    >>> {name: tensor.shape for name, tensor in tensors.items()}
    {'conv1.weight': (8, 3, 7, 7)}
    """
    path = pathlib.Path(path)
    if path.suffix in keras_files.SUFFIXES:
        return keras_files.read_keras_tensors(path)
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            return load_file(path)
        except (SafetensorError, KeyError, TypeError) as error:  # KeyError, TypeError: of dtypes that NumPy lacks.
            raise ValueError(
                f"This file holds no readable tensors ({error!r}). Received: weights={str(path)!r}"
            ) from None
    content = _unwrapped(_read_torch(path))
    tensors = {name: value for name, value in content.items() if hasattr(value, "detach")}
    if not tensors:
        raise ValueError(
            f"This file holds no tensors by name; save a model's state_dict(). Received: weights={str(path)!r} with "
            f"{', '.join(map(repr, list(content)[:_NAMED_AT_ONCE]))}"
        )
    return {name: value.detach().cpu().float().numpy() for name, value in tensors.items()}


def _read_torch(path: pathlib.Path) -> Any:
    try:
        import torch
    except ImportError:
        raise ImportError(
            "Reading a checkpoint of PyTorch needs PyTorch: pip install 'kreid[convert]'; or save it elsewhere as "
            f".safetensors. Received: weights={str(path)!r}"
        ) from None
    check_unpacked_size(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Any error of the unpickler, on whatever bytes.
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"PyTorch reads no tensors from this file without running code from it ({reason}); save a model's "
            f"state_dict(). Received: weights={str(path)!r}"
        ) from None


def _unwrapped(content: Any) -> Mapping[str, Any]:
    while isinstance(content, Mapping):
        inner = next((content[name] for name in _WRAPPERS if isinstance(content.get(name), Mapping)), None)
        if inner is None:
            return {name: value for name, value in content.items() if isinstance(name, str)}
        content = inner
    return {}


def load_checkpoint(
    backbone: "StagedBackbone",
    path: str | os.PathLike[str],
    skip: Sequence[str] = (),
    licence: str | None = None,
    layout: str | None = None,
) -> Conversion:
    """Load a checkpoint of another project into a backbone of the same architecture, completely or not at all.

    Args:
        backbone: a built `StagedBackbone`, changed in place. The weights must expect pixels as its `preprocessing`
            says; build it with another one if they do not.
        path: see `read_tensors`.
        skip: names of further tensors to leave out, with `*` and `?`; the usual names of classifiers and embedding
            layers are left out in any case.
        licence: of the weights, for the passport; `None` if unknown.
        layout: the project whose names and stem the file has; `None` for the one that explains most tensors. A whole
            model of fast-reid is recognised; of its backbone alone, name `"fast-reid"`, as the names are torchvision's
            and the stem pools other pixels. Name `"torchvision"` for a model of fast-reid from before August 2020.

    Returns:
        A `Conversion`.

    Raises:
        ValueError: as `read_tensors` does; or naming every tensor without a place in the backbone and every weight
            without a tensor, every tensor of another shape, or a tensor with NaN or infinity.

    Example:

        backbone = kreid.backbones.build("mobilenet_v2", image_size=(256, 128), last_stride=1)
        print(kreid.backbones.load_checkpoint(backbone, "mobilenet_v2.safetensors").left_out)
    """
    path = pathlib.Path(path)
    layout, matched, left_out = load_tensors(backbone, read_tensors(path), f"weights={str(path)!r}", skip, layout)
    conversion = Conversion(
        layout, len(matched), left_out, path.name, file_digest(path), backbone.preprocessing, licence, matched
    )
    backbone.passport = conversion.passport
    return conversion


def load_tensors(
    backbone: "StagedBackbone",
    tensors: Mapping[str, np.ndarray],
    origin: str,
    skip: Sequence[str] = (),
    layout: str | None = None,
) -> tuple[str, dict[str, str], tuple[str, ...]]:
    """Load the tensors of a checkpoint, see `load_checkpoint`.

    Args:
        backbone: a built `StagedBackbone`, changed in place.
        tensors: arrays by name.
        origin: where they come from, for messages, such as `"weights='imagenet'"`.
        skip: names of further tensors to leave out.
        layout: see `load_checkpoint`.

    Returns:
        The layout, the path of the backbone's weight by the name of its tensor, and the names left out.

    Raises:
        ValueError: as `load_checkpoint` does.
    """
    if backbone.architecture == "inception_v3":
        tensors = _counted_from_0(tensors)
    layouts = _possible_layouts(backbone.architecture, tensors, layout)
    left_out = sorted(name for name in tensors if _matches(_plain(name), _CLASSIFIERS) or _matches(name, skip))
    plain_names = _plain_names(name for name in tensors if name not in left_out)
    own = {plain: tensors[name] for plain, name in plain_names.items()}
    layout, places = _best_layout(backbone, own, layouts)
    described = f"Received: {origin} for {backbone.architecture}"
    homeless, empty = sorted(own.keys() - places.keys()), sorted(places.keys() - own.keys())
    if homeless or empty:
        raise ValueError(
            f"The file and {backbone.architecture} are different networks: {_listed(homeless, 'tensors')} in the file "
            f"have no place in the backbone, and {_listed(empty, 'tensors')} of the backbone ({layout}'s names) are "
            f"not in the file. {described}"
        )
    values = {name: place.arranged(own[name]) for name, place in places.items()}
    unlike = [
        f"{name} {own[name].shape} instead of {place.there}"
        for name, place in places.items()
        if getattr(values[name], "shape", None) != tuple(place.variable.shape)
    ]
    if unlike:
        raise ValueError(
            f"The file's network has another width or kernel size; the shapes of {_listed(unlike, 'tensors')} differ. "
            f"{described}"
        )
    broken = [name for name in places if not np.isfinite(own[name]).all()]
    if broken:
        raise ValueError(f"{_listed(broken, 'tensors')} have values that are NaN or infinite. {described}")
    for name, place in places.items():
        place.variable.assign(values[name])
    backbone.copy_statistics()
    return layout, {plain_names[name]: place.variable.path for name, place in places.items()}, tuple(left_out)


@dataclasses.dataclass(frozen=True)
class _Place:
    """A weight of the backbone, and how PyTorch arranges the tensor for it."""

    variable: keras.Variable
    axes: tuple[int, ...] | None = None

    def arranged(self, tensor: np.ndarray) -> np.ndarray | None:
        """Return the tensor with the axes of the variable, or `None` if it has another number of axes."""
        if self.axes is None:
            return tensor
        if tensor.ndim == 4 and len(self.axes) == 2:  # A 1x1 convolution in place of a Dense layer.
            tensor = tensor[:, :, 0, 0] if tensor.shape[2:] == (1, 1) else tensor
        return tensor.transpose(self.axes) if tensor.ndim == len(self.axes) else None

    @property
    def there(self) -> tuple[int, ...]:
        """The shape that the tensor must have."""
        shape = tuple(self.variable.shape)
        return shape if self.axes is None else tuple(shape[self.axes.index(axis)] for axis in range(len(shape)))


def _places(layer: keras.layers.Layer, module: str) -> dict[str, _Place]:
    """Return the places of a layer's tensors by their names in the checkpoint."""
    if isinstance(layer, keras.layers.BatchNormalization):
        variables = {
            "weight": layer.gamma,
            "bias": layer.beta,
            "running_mean": layer.moving_mean,
            "running_var": layer.moving_variance,
        }
        return {f"{module}.{name}": _Place(variable) for name, variable in variables.items()}
    if isinstance(layer, keras.layers.GroupNormalization):
        return {f"{module}.weight": _Place(layer.gamma), f"{module}.bias": _Place(layer.beta)}
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        axes: tuple[int, ...] = (2, 3, 0, 1)
    elif isinstance(layer, keras.layers.Conv2D):
        axes = (2, 3, 1, 0)
    else:
        axes = (1, 0)
    places = {f"{module}.weight": _Place(layer.kernel, axes)}
    if layer.use_bias:
        places[f"{module}.bias"] = _Place(layer.bias)
    return places


def _keras_places(layer: keras.layers.Layer, name: str) -> dict[str, _Place]:
    """Return the places of a layer's weights by their names in a file of Keras."""
    if isinstance(layer, keras.layers.BatchNormalization):  # Its branches have further ones.
        weights = [layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance]
    else:
        weights = layer.weights
    return {f"{name}/{weight.name}": _Place(weight) for weight in weights}


def _counted_from_0(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the tensors of Inception by layers' names whose number counts from 0.

    In files it counts all layers of the process that made the network, in the order in which they were made.
    """
    numbers: dict[str, set[int]] = {}
    found = {name: re.fullmatch(r"(conv2d|batch_normalization)(?:_(\d+))?/(\w+)", name) for name in tensors}
    for match in filter(None, found.values()):
        numbers.setdefault(match[1], set()).add(int(match[2] or 0))
    positions = {kind: {number: i for i, number in enumerate(sorted(values))} for kind, values in numbers.items()}
    return {
        name if match is None else f"{match[1]}_{positions[match[1]][int(match[2] or 0)]}/{match[3]}": tensors[name]
        for name, match in found.items()
    }


def _possible_layouts(architecture: str, names: Iterable[str], layout: str | None) -> Mapping[str, Layout]:
    """Return the layouts that a file with these names may have."""
    layouts = LAYOUTS.get(architecture)
    if layouts is None:
        raise ValueError(
            f"Checkpoints of other projects are known for {', '.join(LAYOUTS)}. Received: architecture={architecture!r}"
        )
    if layout is None:
        # Its names alone do not tell fast-reid's networks from others.
        if FAST_REID not in layouts or not is_of_fast_reid(names):
            return {name: other for name, other in layouts.items() if name != FAST_REID}
        layout = FAST_REID
    if layout not in layouts:
        raise ValueError(f"The layouts of {architecture} are {', '.join(layouts)}. Received: layout={layout!r}")
    return {layout: layouts[layout]}


def _best_layout(
    backbone: "StagedBackbone", tensors: Iterable[str], layouts: Mapping[str, Layout]
) -> tuple[str, dict[str, _Place]]:
    """Return the layout that explains most of the tensors, and the places of the backbone's weights by its names."""
    layers = backbone.named_layers() | backbone.named_gates()
    tensors = set(tensors)
    best: tuple[str, dict[str, _Place]] = ("", {})
    for name, layout in layouts.items():
        places: dict[str, _Place] = {}
        for layer_name, layer in layers.items():
            make = _keras_places if name == KERAS else _places
            places |= make(layer, layout(layer_name))
        if not best[0] or len(places.keys() & tensors) > len(best[1].keys() & tensors):
            best = name, places
    return best


def _plain(name: str) -> str:
    """Return a tensor's name without what other programs put before it."""
    while prefix := next((prefix for prefix in _PREFIXES if name.startswith(prefix)), ""):
        name = name.removeprefix(prefix)
    return name


def _plain_names(names: Iterable[str]) -> dict[str, str]:
    """Return the names of tensors by their plain names, without counters and constants of the input.

    Raises:
        ValueError: if two tensors have one plain name.
    """
    plain_names: dict[str, str] = {}
    for name in names:
        plain = _plain(name)
        if _matches(plain, _IGNORED):
            continue
        if plain in plain_names:
            raise ValueError(
                "The file holds more than one network; leave one out by skip, such as skip=['teacher.*']. "
                f"Received: tensors {plain_names[plain]} and {name}"
            )
        plain_names[plain] = name
    return plain_names


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _listed(names: Sequence[str], kind: str) -> str:
    """Return a count and the names, such as `2 tensors (a, b)`."""
    return f"{len(names)} {kind}" + (f" ({', '.join(names)})" if names else "")
