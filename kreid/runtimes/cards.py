"""The cards of exports of every format."""

import json
from pathlib import Path
from typing import Any

import kreid
from kreid.runtimes.formats import CARD_FILE, FORMATS, LAYOUT
from kreid.serving.card import CARD_FILE as SAVED_MODEL_CARD, read_card


def read_any_card(folder: Path) -> dict[str, Any] | None:
    """Read the card of one exported version, of any format; `None` if there is none.

    Args:
        folder: of the version.

    Raises:
        ValueError: if the card is damaged or a newer kreid wrote it.
    """
    saved_model, file = folder / SAVED_MODEL_CARD, folder / CARD_FILE
    if not saved_model.is_file() and not file.is_file():
        return None
    try:
        if saved_model.is_file():
            return {"format": "saved_model", "precision": "float32", **read_card(folder)}
        card = dict(json.loads(file.read_text(encoding="utf-8")))
        readable = int(card["layout"]) <= LAYOUT and card["format"] in FORMATS
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"The card of this export is damaged ({error}); copy its folder again or export it again. "
            f"Received: folder={str(folder)!r}"
        ) from error
    if not readable:
        raise ValueError(
            "This export was written by a newer kreid; install that version or a later one. "
            f"Received: folder={str(folder)!r} of kreid {card.get('kreid')}, this is kreid {kreid.__version__}"
        )
    return card
