"""The metric losses that recipes know by name."""

import difflib
import inspect
from typing import TYPE_CHECKING, Any

from kreid import losses
from kreid.addons import losses as addons_losses

if TYPE_CHECKING:
    from kreid.training.config import Config

METRIC_LOSSES: dict[str, type[losses.MetricLoss]] = {
    "batch_hard_triplet": losses.BatchHardTriplet,
    "semi_hard_triplet": losses.SemiHardTriplet,
    "contrastive": losses.Contrastive,
    "lifted_structure": losses.LiftedStructure,
    "n_pairs": losses.NPairs,
    "multi_similarity": losses.MultiSimilarity,
    "circle": losses.Circle,
    "tfa.TripletSemiHardLoss": addons_losses.TripletSemiHardLoss,
    "tfa.TripletHardLoss": addons_losses.TripletHardLoss,
    "tfa.LiftedStructLoss": addons_losses.LiftedStructLoss,
    "tfa.NpairsLoss": addons_losses.NpairsLoss,
    "tfa.ContrastiveLoss": addons_losses.ContrastiveLoss,
}
# Settings of the recipe itself.
_COMMON = ("self", "reduction", "name", "dtype", "mining")
# The triplet losses are set by these keys of a recipe, the others by `metric_settings`.
_TRIPLET_KEYS = {"triplet_margin": 0.3, "triplet_distance": "euclidean"}


def build_metric_loss(config: "Config", reduction: str = "sum_over_batch_size") -> losses.MetricLoss:
    """Make the metric loss of a `Config`, without its weight.

    Args:
        config: its `metric_loss`, `metric_settings`, `triplet_margin`, `triplet_distance` and `mining` are read.
        reduction: Keras reduction.

    Returns:
        A `kreid.losses.MetricLoss`.

    Raises:
        ValueError: for an unknown loss or setting, with the nearest known one; a value that the loss refuses; or
            settings of another loss.

    Example:

    >>> config = kreid.training.Config("sta", metric_loss="circle", metric_settings={"scale": 64})
    >>> build_metric_loss(config).scale
    64
    """
    name, settings = config.metric_loss, dict(config.metric_settings or {})
    if name not in METRIC_LOSSES:
        raise ValueError(f"There is no such metric loss.{_hint(name, METRIC_LOSSES)} Received: metric_loss={name!r}")
    known = {
        key: parameter.default
        for key, parameter in inspect.signature(METRIC_LOSSES[name].__init__).parameters.items()
        if key not in _COMMON
    }
    if name.endswith("_triplet"):
        if settings:
            raise ValueError(
                f"{name} is set by triplet_margin and triplet_distance; leave out metric_settings. "
                f"Received: metric_settings={config.metric_settings!r}"
            )
        settings = {"margin": config.triplet_margin, "distance": config.triplet_distance}
    else:
        for key, default in _TRIPLET_KEYS.items():
            if getattr(config, key) != default:
                raise ValueError(
                    f"{key} belongs to the triplet losses: give {name} its own metric_settings ({', '.join(known)}), "
                    f"and set {key}={default}. Received: {key}={getattr(config, key)!r}, metric_loss={name!r}"
                )
    for key, value in settings.items():
        if key not in known:
            raise ValueError(
                f"Unknown setting of {name}.{_hint(key, known)} Received: metric_settings={config.metric_settings!r}"
            )
        settings[key] = _number(value) if isinstance(known[key], float) else value
    try:
        return METRIC_LOSSES[name](**settings, reduction=reduction, mining=config.mining)
    except ValueError as error:
        raise ValueError(f"The metric loss {name} refuses its settings: {error}") from None


def _hint(name: object, known: Any) -> str:
    near = difflib.get_close_matches(str(name), known, n=1)
    return f" Did you mean {near[0]!r}?" if near else f" The known ones are {', '.join(known)}."


def _number(value: Any) -> Any:
    """Return text that is a number as the number: YAML reads 3e-1 (no dot) as text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
