"""What a run writes into its model's passport."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kreid.data.tracklet import ReidDataset, Tracklet

if TYPE_CHECKING:
    from kreid.models import TrackletModel


def describe(
    model: "TrackletModel", dataset: ReidDataset, train: Sequence[Tracklet], results: Mapping[str, Any]
) -> None:
    """Write into a model's passport what it was trained on and how well it did.

    Args:
        model: a trained model, whose passport is replaced.
        dataset: the data set.
        train: the tracklets trained on, without those of held-out persons.
        results: the run's results: `protocols`, see `kreid.evaluation.results_dict`, and `verification`, both optional.
    """
    protocols = results.get("protocols") or {}
    model.passport = dataclasses.replace(
        model.passport,
        trained_on={
            "data": dataset.name,
            "split": dataset.split,
            "persons": len({tracklet.person for tracklet in train}),
            "tracklets": len(train),
        },
        scores={
            name: {"map": scores["map"], "rank-1": scores["cmc"]["1"], "queries": scores["num_valid"]}
            for name, scores in protocols.items()
        },
        verification=results.get("verification"),
    )
