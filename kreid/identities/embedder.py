"""The model that embeds tracklets: of a run, a `.keras` file or an export."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kreid.data.clips import evenly
from kreid.passport import Passport
from kreid.runs import RunFiles, load_run_or_model
from kreid.serving.card import CARD_FILE, read_card
from kreid.serving.publish import versions

if TYPE_CHECKING:
    from kreid.models import TrackletModel


class ExportedModel:
    """An exported version with the attributes of a model that `kreid.tracks.embed_tracks` needs.

    A tracklet of more frames than the export takes is thinned evenly, as `kreid query` does.

    Args:
        path: of the version's folder.

    Raises:
        ValueError: if the version cannot be loaded.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        from kreid.serving.loaded_model import LoadedModel

        card = read_card(path)
        self._loaded = LoadedModel(Path(path))
        self.image_size = tuple(card["image_size"])
        self.embedding_dim, self.metric, self.fingerprint = card["embedding_dim"], card["metric"], card["fingerprint"]
        self.passport = dataclasses.replace(
            Passport.from_dict(card.get("passport")), verification=card.get("verification")
        )
        self.selection = _Selection(card["frame_limit"])

    def embed_batch(self, batch: Mapping[str, Any], frames_at_once: int = 0) -> np.ndarray:
        """Embed tracklets, one after the other: the export itself bounds the frames in a run of the network.

        Args:
            batch: `frames`, uint8 `(B, T, height, width, 3)`, and `lengths`, int32 `(B,)`.
            frames_at_once: not used.

        Returns:
            float32 NumPy array `(B, D)`.
        """
        rows = []
        for frames, length in zip(batch["frames"], batch["lengths"], strict=True):
            inputs = {"frames": frames[None, :length], "lengths": np.array([length], np.int32)}
            rows.append(self._loaded.run("embed_padded", inputs, ["embedding"])["embedding"])
        return np.concatenate(rows)


@dataclasses.dataclass(frozen=True)
class _Selection:
    limit: int

    def positions(self, length: int) -> np.ndarray:
        return evenly(length, self.limit)


def load_embedder(path: str | os.PathLike[str]) -> "TrackletModel | ExportedModel":
    """Load the model of a run's folder, of a `.keras` file, or of an export.

    Args:
        path: of the run's folder, the file, an exported version's folder, or the folder above, whose newest version is
            used.

    Returns:
        A model of `kreid.models` or an `ExportedModel`. Its passport has the threshold, if one was fitted.

    Raises:
        ValueError: if there is no model.
    """
    version = _exported_version(Path(path))
    if version is not None:
        return ExportedModel(version)
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


def _exported_version(path: Path) -> Path | None:
    if (path / CARD_FILE).is_file():
        return path
    numbers = versions(path) if path.is_dir() else []
    newest = path / str(max(numbers)) if numbers else None
    return newest if newest is not None and (newest / CARD_FILE).is_file() else None
