"""The verification threshold of a trained model, from the persons held out."""

from kreid.evaluation import fit_verification
from kreid.gallery.embed import embed_tracklets


def fit_on_holdout(model, holdout, false_match_rate, max_damaged=0.05):
    """Fits the threshold for a chosen false-match rate on the held-out persons, where there are enough of them.

    With the checkpoint chosen on the same persons the rates are a little better than on others.

    Args:
        model: the trained model; its metric is what the threshold is of.
        holdout: a `ReidDataset` of held-out persons, see `train_and_holdout`, or `None`; its name says who they are.
        false_match_rate: see `kreid.evaluation.fit_verification`.
        max_damaged: share of unreadable frames above which the run stops.

    Returns:
        What `kreid.evaluation.fit_verification` gives, or `None`, and why in words: nobody was held out, or their
        pairs are too few to see the rate. The words also name the frames that could not be read.
    """
    if holdout is None:
        return None, "Nobody was held out, so no verification threshold is fitted."
    embedded = embed_tracklets(model, holdout.test, max_damaged=max_damaged, progress=False)
    damage = f"\nOf the persons held out: {embedded.damage.report()}" if embedded.damage.counts else ""
    try:
        fitted = fit_verification(
            embedded.embeddings,
            [tracklet.person for tracklet in embedded.tracklets],
            [tracklet.camera for tracklet in embedded.tracklets],
            model.metric,
            false_match_rate=false_match_rate,
            fitted_on=holdout.name,
        )
    except ValueError as error:
        return None, f"No verification threshold is fitted. {error}{damage}"
    low, high = (100 * end for end in fitted["false_non_match_interval"])
    return fitted, (
        f"Same person below a {fitted['metric']} distance of {fitted['threshold']:.4g}: "
        f"{100 * false_match_rate:.3g}% of different persons accepted, "
        f"{100 * fitted['false_non_match_rate']:.1f}% ({low:.1f} to {high:.1f}) of equal ones refused, on "
        f"{fitted['fitted_on']['persons']} held-out persons.{damage}"
    )
