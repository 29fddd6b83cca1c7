"""The model that embeds tracklets: of a run, a `.keras` file or an export."""

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from kreid.runs import RunFiles, load_run_or_model
from kreid.runtimes.cards import read_any_card
from kreid.runtimes.exported_model import load_export
from kreid.serving.publish import versions

if TYPE_CHECKING:
    from kreid.models import TrackletModel
    from kreid.runtimes import ExportedModel


def load_embedder(path: str | os.PathLike[str]) -> "TrackletModel | ExportedModel":
    """Load the model of a run's folder, of a `.keras` file, or of an export in any format.

    Args:
        path: of the run's folder, the file, or an export, see `kreid.load_export`.

    Returns:
        A model of `kreid.models` or a `kreid.runtimes.ExportedModel`. Its passport has the threshold, if one was
            fitted.

    Raises:
        ValueError: if there is no model.
    """
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    if read_any_card(folder) is not None or (folder == Path(path) and versions(folder)):
        return load_export(path)
    if not os.path.lexists(path):
        raise ValueError(
            "There is no model here; name a run's folder, a .keras file or an export. "
            f"Received: model={os.fspath(path)!r}"
        )
    model = load_run_or_model(path)
    fitted = RunFiles(path).read_results().get("verification")
    if model.passport.verification is None and fitted is not None:
        model.passport = dataclasses.replace(model.passport, verification=fitted)
    return model
