"""The verification threshold of a trained model, from the held-out persons."""

import typing
from typing import Any

from kreid.data.tracklet import ReidDataset
from kreid.evaluation import fit_verification
from kreid.evaluation.verification import MIN_LINKED_PERSONS
from kreid.gallery import embed_tracklets

if typing.TYPE_CHECKING:
    from kreid.models import TrackletModel


def fit_on_holdout(
    model: "TrackletModel", holdout: ReidDataset | None, false_match_rate: float | None, max_damaged: float = 0.05
) -> tuple[dict[str, Any] | None, str]:
    """Fit the threshold for a chosen false-match rate on the held-out persons, if there are enough of them.

    A threshold has to be asked for, as its persons are not trained on: a ranking needs none, a decision whether two
    tracklets show one person does. If the checkpoint was chosen on the same persons, the rates are slightly lower than
    on other persons.

    Args:
        model: the trained model.
        holdout: a `ReidDataset` of held-out persons, see `train_and_holdout`, or `None`; its name describes them.
        false_match_rate: see `kreid.evaluation.fit_verification`; `None` fits nothing.
        max_damaged: share of unreadable frames above which the run stops.

    Returns:
        The dict of `kreid.evaluation.fit_verification`, or `None` if no person was held out or there are too few pairs
        to show the rate; and a text to print, which also names the frames that could not be read.
    """
    if false_match_rate is None:
        return None, "No verification threshold is fitted; set false_match_rate, such as 0.001, and holdout for one."
    if holdout is None:
        return None, "No person was held out, so no verification threshold is fitted."
    embeddings = embed_tracklets(model, holdout.test, max_damaged=max_damaged, progress=False)
    damaged = len(embeddings.damaged_frames)
    damage = f"\nOf the held-out persons: {embeddings.damage_report()}" if damaged else ""
    try:
        fitted = fit_verification(embeddings, false_match_rate=false_match_rate, fitted_on=holdout.name)
    except ValueError as error:
        return None, f"No verification threshold is fitted. {error}{damage}"
    low, high = (100 * end for end in fitted["false_non_match_interval"])
    linking = fitted["linking"]
    linked = (
        f"Groups of tracklets are best linked below a mean distance of {linking['threshold']:.4g}: precision "
        f"{100 * linking['precision']:.1f}% and recall {100 * linking['recall']:.1f}% of their pairs."
        if linking
        else "No threshold for groups of tracklets is fitted: fewer than "
        f"{MIN_LINKED_PERSONS} held-out persons are in two cameras or more."
    )
    return fitted, (
        f"Same person below a {fitted['metric']} distance of {fitted['threshold']:.4g}: "
        f"{100 * false_match_rate:.3g}% of the pairs of different persons accepted, "
        f"{100 * fitted['false_non_match_rate']:.1f}% ({low:.1f} to {high:.1f}) of the same person's refused, on "
        f"{fitted['fitted_on']['persons']} held-out persons. {linked}{damage}"
    )
