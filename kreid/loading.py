"""The loader of saved models and checkpoints."""

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kreid._files import check_unpacked_size

if TYPE_CHECKING:
    from kreid.models.tracklet_model import TrackletModel


def load_model(
    path: str | os.PathLike[str], compile: bool = True, custom_objects: Mapping[str, Any] | None = None
) -> "TrackletModel":
    """Load a model that kreid saved: a run's `model.keras`, or a checkpoint with its losses and optimiser.

    `keras.models.load_model` knows kreid's classes only after they have been imported; this imports them first: models,
    layers, losses and optimisers. Import the module of your own system before you load a file of it.

    Args:
        path: of a `.keras` file.
        compile: also restore losses, metrics and the optimiser with its state, to train on.
        custom_objects: see `keras.models.load_model`.

    Returns:
        The model.

    Raises:
        ValueError: if there is no such file, it unpacks to much more than its size, it holds no model of kreid, or its
            system is not registered.

    Example:

    >>> model = kreid.models.Baseline(kreid.backbones.build("resnet_tiny", image_size=(64, 32)), num_identities=2)
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/model.keras")
    ...     kreid.load_model(f"{folder}/model.keras").embedding_dim
    128
    """
    import keras

    # Imported to register their classes.
    import kreid.losses
    import kreid.optimizers  # noqa: F401
    from kreid.models import SYSTEMS, TrackletModel

    path = Path(path)
    if not path.exists():
        raise ValueError(f"There is no model file at this path. Received: path={str(path)!r}")
    check_unpacked_size(path)
    package, _, system = _registered_name(path).partition(">")
    if package == "kreid_system" and system not in SYSTEMS:
        raise ValueError(
            f"The file holds a model of your own system {system!r}; import the module that registers it first. "
            f"Received: path={str(path)!r}"
        )
    model = keras.models.load_model(path, compile=compile, custom_objects=custom_objects)
    if not isinstance(model, TrackletModel):
        raise ValueError(
            f"The file holds a {type(model).__name__}, not a model of kreid; use keras.models.load_model. "
            f"Received: path={str(path)!r}"
        )
    return model


def _registered_name(path: Path) -> str:
    """Return the name by which Keras finds a file's class, or nothing for a file that Keras judges itself."""
    try:
        with zipfile.ZipFile(path) as file:
            return json.loads(file.read("config.json")).get("registered_name") or ""
    except (OSError, zipfile.BadZipFile, KeyError, ValueError):
        return ""
