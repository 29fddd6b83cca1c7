"""Find and import TensorFlow Addons: its losses alone, or all of it in Keras 2's mode."""

import functools
import importlib
import importlib.util
import os
import pathlib
import sys
import types
from collections.abc import Sequence

from kreid.addons.private_import import PrivateImport

_PACKAGE = "tensorflow_addons"
_LEGACY = "TF_USE_LEGACY_KERAS"
_OWN_LOSSES = "batch_hard_triplet, semi_hard_triplet, lifted_structure, n_pairs and contrastive of kreid.losses"


def full() -> types.ModuleType:
    """Import the whole of TensorFlow Addons, in a process whose `tf.keras` is Keras 2.

    TensorFlow chooses its `tf.keras` when it is imported: call this at the start of a program, before TensorFlow or
    Keras is imported, by kreid too. It sets `TF_USE_LEGACY_KERAS=1`, so that `tf.keras` is `tf_keras`. `keras` and
    kreid stay Keras 3 beside it: models and layers of the two do not mix. Some of the package's compiled operations do
    not load into newer versions of TensorFlow; they raise when they are called.

    Returns:
        The module `tensorflow_addons`.

    Raises:
        ImportError: without TensorFlow Addons or tf_keras, with the command that installs them.
        RuntimeError: if `tf.keras` is Keras 3 in this process already.

    Example:

        addons = kreid.addons.full()
        layer = addons.layers.WeightNormalization(tf_keras.layers.Dense(8))
    """
    if hasattr(sys.modules.get(_PACKAGE), "losses"):
        return sys.modules[_PACKAGE]
    _folder()
    check_tf_keras()
    if "tensorflow" not in sys.modules:
        os.environ[_LEGACY] = "1"
    spec = importlib.util.find_spec("tensorflow.keras")
    if spec is None or "tf_keras" not in pathlib.Path(spec.origin or "").parts:
        raise RuntimeError(
            "The whole of TensorFlow Addons needs a process whose tf.keras is Keras 2: call kreid.addons.full() before "
            "TensorFlow or Keras is imported, or start Python with TF_USE_LEGACY_KERAS=1. kreid.addons.losses works "
            f"with both. Received: tf.keras from {spec.origin if spec else None}"
        )
    import tf_keras.src.engine

    # The package imports `keras.src.engine`, which Keras 3 lacks; the name is there during the import only.
    alias = "keras.src.engine"
    sys.modules[alias] = tf_keras.src.engine
    try:
        return importlib.import_module(_PACKAGE)
    finally:
        del sys.modules[alias]


def check_tf_keras() -> None:
    """Raise if Keras 2 is not installed.

    Raises:
        ImportError: with the command that installs it.
    """
    if importlib.util.find_spec("tf_keras") is None:
        raise ImportError("Keras 2 is in the package tf-keras: pip install 'kreid[addons]'")


@functools.cache
def losses_module() -> types.ModuleType:
    """Return TensorFlow Addons' module `losses`, which works with Keras 2 and 3.

    It is imported without the rest of the package, and nothing outside changes: `sys.modules` and the classes that
    Keras finds by name are as before.

    Raises:
        ImportError: without TensorFlow Addons, or if it does not import here.
    """
    imported = sys.modules.get(f"{_PACKAGE}.losses")
    if imported is not None:
        return imported
    folder = _folder()
    import keras
    import tensorflow as tf

    engine = types.SimpleNamespace(keras_tensor=types.SimpleNamespace(KerasTensor=keras.KerasTensor))
    registered = tf.keras.utils.get_custom_objects()
    before = dict(registered)
    try:
        return PrivateImport(_PACKAGE, folder, {"keras.src.engine": engine}).module(f"{_PACKAGE}.losses")
    except ImportError as error:
        raise ImportError(
            f"TensorFlow Addons is installed, but its losses do not import ({error}): pip install 'kreid[addons]'"
        ) from error
    finally:
        registered.clear()
        registered.update(before)


def _folder() -> pathlib.Path:
    """Return the folder of TensorFlow Addons."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(missing(sys.version_info[:2]))
    return pathlib.Path(next(iter(spec.submodule_search_locations)))


def missing(version: Sequence[int]) -> str:
    """Return the sentence for a Python without TensorFlow Addons, by its version."""
    if tuple(version) >= (3, 12):
        return (
            "TensorFlow Addons has packages for Python up to 3.11 alone; use kreid's own losses: "
            f"{_OWN_LOSSES}. Received: Python {version[0]}.{version[1]}"
        )
    return (
        "TensorFlow Addons is not installed: pip install 'kreid[addons]'; or use kreid's own losses of the same "
        f"values: {_OWN_LOSSES}"
    )
