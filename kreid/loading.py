"""The loader of saved models and checkpoints."""

import json
import os
import re
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
    import kreid.addons.losses
    import kreid.losses
    import kreid.optimizers
    from kreid.models import SYSTEMS, TrackletModel

    path = Path(path)
    if not path.exists():
        raise ValueError(f"There is no model file at this path. Received: path={str(path)!r}")
    check_unpacked_size(path)
    package, _, system = (read_config(path).get("registered_name") or "").partition(">")
    if package == "kreid_system" and system not in SYSTEMS:
        raise ValueError(
            f"The file holds a model of your own system {system!r}; import the module that registers it first. "
            f"Received: path={str(path)!r}"
        )
    try:
        model = keras.models.load_model(path, compile=compile, custom_objects=custom_objects)
    except Exception as error:  # Whatever the classes of another kreid ask for.
        version = ((read_config(path).get("config") or {}).get("passport") or {}).get("kreid")
        if not _is_newer(version, than=kreid.__version__):
            raise
        raise ValueError(
            f"The file was saved by a newer kreid and this one cannot read it; install kreid {version} or later. "
            f"Received: path={str(path)!r}, kreid {kreid.__version__}"
        ) from error
    if not isinstance(model, TrackletModel):
        raise ValueError(
            f"The file holds a {type(model).__name__}, not a model of kreid; use keras.models.load_model. "
            f"Received: path={str(path)!r}"
        )
    return model


def read_config(path: Path) -> dict[str, Any]:
    """Return the config of a `.keras` file, or nothing if it has none that can be read; Keras judges such a file."""
    try:
        with zipfile.ZipFile(path) as file:
            return dict(json.loads(file.read("config.json")))
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError):
        return {}


def _is_newer(version: Any, than: str) -> bool:
    """Whether one version of kreid, such as `"0.2.0"`, comes after another."""
    theirs, ours = ([int(number) for number in re.findall(r"\d+", str(text))[:3]] for text in (version, than))
    return theirs > ours
