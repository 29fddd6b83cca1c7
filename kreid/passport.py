"""Where a model comes from and how well it did: the passport that saved models, exports and galleries carry."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import kreid


@dataclasses.dataclass(frozen=True)
class Passport:
    """Where a model comes from, what it was trained on and how well it did, as plain data.

    `model.passport` is it. `model.save` keeps it, `kreid.serving.export_model` writes it into the card, and
    `kreid.gallery` into its files; `kreid export --show FILE` prints it.

    Args:
        starting_weights: of the backbone: `weights` (the file's name, or `"imagenet"`), `sha256`, `layout`,
            `preprocessing` and `licence`; `None` for random ones.
        started_from: the saved model that training started from, if any: `file`, `sha256`, and its own `trained_on` and
            `started_from`.
        trained_on: `data`, the data set's name, its `split`, `persons` and `tracklets`.
        scores: by protocol, `map`, `rank-1` and `queries`.
        verification: the threshold, see `kreid.evaluation.fit_verification`.
        fingerprint: see `kreid.models.fingerprint`; in the passports of exports and of embeddings.
        kreid: the version of kreid that saved the model.

    Raises:
        TypeError: for a field that `json` cannot write.

    Example:

    >>> backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32))
    >>> model = kreid.models.Baseline(backbone, num_identities=2)
    >>> model.passport = kreid.models.Passport(trained_on={"data": "mine", "persons": 2})
    >>> print(model.passport)
    starting weights: random
    trained on: data mine, persons 2
    scores: none
    threshold: none
    """

    starting_weights: Mapping[str, Any] | None = None
    started_from: Mapping[str, Any] | None = None
    trained_on: Mapping[str, Any] | None = None
    scores: Mapping[str, Mapping[str, Any]] | None = None
    verification: Mapping[str, Any] | None = None
    fingerprint: str | None = None
    kreid: str | None = None

    def __post_init__(self) -> None:
        # As they are read back from a file: without tuples, and with strings as keys.
        for name, value in vars(self).items():
            object.__setattr__(self, name, json.loads(json.dumps(value)))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as data that `json` can write."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> "Passport":
        """Read back the data of `to_dict`. Fields of a later kreid are left out, missing ones are `None`."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in (data or {}).items() if name in known})

    def saved_now(self, fingerprint: str | None = None) -> "Passport":
        """Return the passport with this version of kreid, and a fingerprint where the weights can no longer change."""
        return dataclasses.replace(self, kreid=kreid.__version__, fingerprint=fingerprint)

    def __str__(self) -> str:
        lines = {
            "starting weights": _line(self.starting_weights) or "random",
            "started from": _line(self.started_from),
            "trained on": _line(self.trained_on) or "unknown",
            "scores": "; ".join(f"{name}: {_line(scores)}" for name, scores in (self.scores or {}).items()) or "none",
            "threshold": _line(self.verification) or "none",
            "fingerprint": self.fingerprint,
            "kreid": self.kreid,
        }
        return "\n".join(f"{name}: {text}" for name, text in lines.items() if text)


def _line(values: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{name} {_text(value)}" for name, value in (values or {}).items())


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({_line(value)})"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "unknown" if value is None else str(value)
