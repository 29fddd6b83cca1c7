"""The model card: what a client has to know of an export, in one JSON document."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kreid.fingerprint import fingerprint

if TYPE_CHECKING:
    from kreid.serving.signatures import Exportable, Limits

CARD_FILE = "assets.extra/kreid.json"


def read_card(export_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the model card of one exported version.

    Args:
        export_dir: folder of the version.

    Returns:
        A dict with `system`, `embedding_dim`, `image_size`, `metric`, `fingerprint` (see `kreid.models.fingerprint`),
        `frame_limit` and the other `limits`, `verification` (`None` without a fitted threshold), `passport` (see
        `kreid.models.Passport`), `signatures`, `lacks`, the reason for each signature that the system lacks, and the
        versions of `kreid`, `keras` and `tensorflow`. With the signature `search` it has `gallery`: the numbers of
        tracklets and persons, the threshold and the count.
    """
    return json.loads((Path(export_dir) / CARD_FILE).read_text(encoding="utf-8"))


def model_card(
    model: "Exportable",
    limits: "Limits",
    verification: Mapping[str, Any] | None,
    signatures: Mapping[str, Any],
    lacks: Mapping[str, str],
) -> dict[str, Any]:
    """Return the card of a model that is to be exported as a SavedModel."""
    card = card_of_model(model, verification)
    limited = {"frame_limit": limits.frames_per_tracklet, "limits": limits.to_dict()}
    return {**card, **limited, "signatures": signatures, "lacks": lacks}


def card_of_model(model: "Exportable", verification: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the part of the card that exports of every format have."""
    import keras
    import tensorflow as tf

    height, width = (int(size) for size in model.image_size)
    passport = getattr(model, "passport", None)
    digest = fingerprint(model)
    return {
        "system": type(model).__name__,
        "embedding_dim": int(model.embedding_dim),
        "image_size": [height, width],
        "metric": str(model.metric),
        "fingerprint": digest,
        "verification": None if verification is None else dict(verification),
        "passport": None if passport is None else passport.saved_now(digest).to_dict(),
        "kreid": _kreid_version(),
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
    }


def checked_verification(model: "Exportable", given: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return the threshold for the card: the given one, or else that of the model's passport.

    Raises:
        ValueError: if it is of another metric than the model's.
    """
    passport = getattr(model, "passport", None)
    if given is None and passport is not None:
        given = passport.verification
    if given is not None and given["metric"] != str(model.metric):
        raise ValueError(
            f"The threshold must be of the model's metric, {model.metric}; fit it again. "
            f"Received: verification of metric={given['metric']!r}"
        )
    return given


def _kreid_version() -> str:
    from importlib import metadata

    try:
        return metadata.version("kreid")
    except metadata.PackageNotFoundError:
        return "source checkout"
