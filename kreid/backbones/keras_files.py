"""The weights in Keras's own files, by the names of their layers."""

import contextlib
import io
import json
import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from kreid._files import check_unpacked_size, times_larger

SUFFIXES = (".keras", ".h5", ".hdf5")

# Errors of a file that is damaged or of another kind.
_BROKEN = (OSError, KeyError, RuntimeError, AttributeError, json.JSONDecodeError, zipfile.BadZipFile)
# The names of a layer's weights in the order in which files number them, by how many there are.
_WEIGHTS = {
    1: ("kernel",),
    2: ("kernel", "bias"),
    3: ("beta", "moving_mean", "moving_variance"),
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
}


def read_keras_tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Read the weights of a Keras file, `.keras`, `.h5` or `.weights.h5`, without making its model.

    Args:
        path: of the file.

    Returns:
        Arrays by the layer's name and the weight's, such as `"conv1_conv/kernel"`. A batch normalisation without a
        scale has a `gamma` of ones.

    Raises:
        ValueError: if the file is damaged, unpacks to more than it is, or is a model of kreid.
    """
    try:
        with _opened(path) as file:
            layers = _of_h5(file) if _is_old(file) else _of_weights_h5(file)
            return {f"{name}/{weight}": value for name, values in layers for weight, value in _named(values)}
    except _BROKEN as error:
        raise ValueError(f"This is no readable file of Keras ({error}). Received: weights={str(path)!r}") from None


def tensors_of(model: Any) -> dict[str, np.ndarray]:
    """Return the same arrays of a model in memory, of Keras 3 or 2."""
    layers = ((layer.name, layer.get_weights()) for layer in leaf_layers(model))
    return {f"{name}/{weight}": value for name, values in layers for weight, value in _named(values)}


def leaf_layers(model: Any) -> Iterator[Any]:
    """Return the layers of a model and of the models inside it, in order."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from leaf_layers(layer)
        else:
            yield layer


def is_own_file(path: pathlib.Path) -> bool:
    """Return whether `StagedBackbone.save_pretrained` wrote the file: it has stages."""
    try:
        with h5py.File(path) as file:
            layers = file.get("layers")
            return isinstance(layers, h5py.Group) and "stage" in layers
    except OSError:
        return False


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[h5py.File]:
    if path.suffix != ".keras":
        with h5py.File(path) as file:
            _check_declared_size(file, path, path.stat().st_size)
            yield file
        return
    check_unpacked_size(path)
    with zipfile.ZipFile(path) as archive:
        registered = json.loads(archive.read("config.json")).get("registered_name") or ""
        if registered.startswith("kreid"):
            raise ValueError(
                "This file was saved by kreid: start from a model by init=FILE, and from a backbone by a file of its "
                f"save_pretrained. Received: weights={str(path)!r} of {registered!r}"
            )
        content = archive.read("model.weights.h5")
    with h5py.File(io.BytesIO(content)) as file:
        _check_declared_size(file, path, len(content))
        yield file


def _check_declared_size(file: h5py.File, path: pathlib.Path, size: int) -> None:
    """Check that the arrays are in the file: HDF5 can declare any shape, and name other files for the values."""
    declared, outside = 0, False

    def visit(name, part):
        nonlocal declared, outside
        if isinstance(part, h5py.Dataset):
            declared += part.nbytes
            outside = outside or bool(part.external)

    file.visititems(visit)
    if outside or times_larger(declared, size):
        raise ValueError(
            f"The arrays of this file are not in it ({declared} bytes are declared). "
            f"Received: weights={str(path)!r} of {path.stat().st_size} bytes"
        )


def _is_old(file: h5py.File) -> bool:
    """Whether the file is of Keras 2's format, `.h5`, of a model or of its weights."""
    return "layer_names" in file.attrs or "model_weights" in file


def _of_h5(file: h5py.File) -> Iterator[tuple[str, list[np.ndarray]]]:
    root = file.get("model_weights", file)
    for name in root.attrs["layer_names"]:
        name = name if isinstance(name, str) else name.decode()
        weights = [
            weight if isinstance(weight, str) else weight.decode() for weight in root[name].attrs["weight_names"]
        ]
        # A model inside the model is one layer of the file, whose weights have the names of its own layers.
        inside: dict[str, list[str]] = {}
        for weight in weights:
            inside.setdefault(weight.rpartition("/")[0].rpartition("/")[2], []).append(weight)
        for layer, its_weights in inside.items() if len(inside) > 1 else [(name, weights)]:
            yield layer, [root[name][weight][()] for weight in its_weights]


def _of_weights_h5(file: h5py.File) -> Iterator[tuple[str, list[np.ndarray]]]:
    groups: list[h5py.Group] = []
    file.visititems(lambda name, part: groups.append(part) if "name" in part.attrs else None)
    for group in groups:
        yield str(group.attrs["name"]), [group[number][()] for number in sorted(filter(str.isdecimal, group), key=int)]


def _named(values: list[np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    names = _WEIGHTS.get(len(values), tuple(map(str, range(len(values)))))
    yield from zip(names, values, strict=True)
    if names == _WEIGHTS[3]:
        yield "gamma", np.ones_like(values[0])
