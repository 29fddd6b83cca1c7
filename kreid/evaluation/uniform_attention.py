"""The worth of a model's attention: scores with it and with equal weights, and how unequal the weights are."""

import typing
from typing import Any, NamedTuple

import numpy as np

from kreid.data.tracklet import JUNK, ReidDataset
from kreid.evaluation.bootstrap import Interval, paired_bootstrap
from kreid.evaluation.model import evaluate_model
from kreid.evaluation.retrieval_result import RetrievalResult

if typing.TYPE_CHECKING:
    from kreid.models import TrackletModel

# Attentions of longer tracklets take too much memory.
_MOST_FRAMES = 96
_DRAWS = 2000


class WeightSpread(NamedTuple):
    """How unequal the weights of an attention are, over tracklets of two frames or more.

    Args:
        tracklets: int, how many were measured.
        max_over_mean: smallest, mean and largest ratio of a tracklet's largest weight to its mean weight: 1 for equal
            weights, N where one of N frames has all the weight.
        entropy: smallest, mean and largest entropy of a tracklet's weights, divided by that of equal weights: 1 for
            equal weights, 0 where one frame has all the weight.
    """

    tracklets: int
    max_over_mean: tuple[float, float, float]
    entropy: tuple[float, float, float]


class UniformAttention(NamedTuple):
    """A model's scores with its attention and with equal weights.

    Args:
        own: protocol -> `RetrievalResult` of the model.
        uniform: protocol -> `RetrievalResult` with equal weights, on the same queries.
        spreads: name of the attention -> `WeightSpread`.
    """

    own: dict[str, RetrievalResult]
    uniform: dict[str, RetrievalResult]
    spreads: dict[str, WeightSpread]

    def differences(self, protocol: str = "mars") -> dict[str, Interval]:
        """Return the paired differences, own less uniform, with their 95% bootstrap intervals over queries.

        Args:
            protocol: see `evaluate_test`.
        """
        own, uniform = self.own[protocol].by_query(), self.uniform[protocol].by_query()
        return {name: paired_bootstrap(own[name], uniform[name], draws=_DRAWS) for name in ("rank-1", "mAP")}

    def table(self, protocol: str = "mars") -> str:
        """Return scores, differences and spreads as lines for a terminal, in per cent.

        Args:
            protocol: see `evaluate_test`.
        """
        own, uniform = self.own[protocol], self.uniform[protocol]
        scores = {"rank-1": (own.cmc[1], uniform.cmc[1]), "mAP": (own.map, uniform.map)}
        lines = [f"Attention and equal weights, protocol {protocol}:"]
        for name, (mean, low, high) in self.differences(protocol).items():
            one, other = scores[name]
            lines.append(
                f"{name} {100 * one:.1f} with attention, {100 * other:.1f} with equal weights; difference "
                f"{100 * mean:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})."
            )
        for name, (tracklets, ratios, entropies) in self.spreads.items():
            lines.append(
                f"Weights {name!r} of {tracklets} tracklets: largest over mean {_three(ratios)}; entropy "
                f"{_three(entropies)} of equal weights' (smallest, mean, largest)."
            )
        return "\n".join(lines)

    def numbers(self) -> dict[str, Any]:
        """Return scores, differences and spreads as data that `json` can write, as fractions."""
        return {
            "protocols": {
                name: {
                    "own": {"rank-1": self.own[name].cmc[1], "mAP": self.own[name].map},
                    "uniform": {"rank-1": self.uniform[name].cmc[1], "mAP": self.uniform[name].map},
                    "differences": {score: list(one) for score, one in self.differences(name).items()},
                }
                for name in self.own
            },
            "weights": {name: spread._asdict() for name, spread in self.spreads.items()},
        }


def evaluate_uniform_attention(
    model: "TrackletModel",
    dataset: ReidDataset,
    *,
    own: dict[str, RetrievalResult] | None = None,
    max_damaged: float = 0.05,
    progress: bool = True,
) -> UniformAttention:
    """Score a model with its attention and with equal weights in place of it, and measure the weights.

    A model whose attention does nothing has a difference near 0, or weights near equal: entropies near 1.

    Args:
        model: a model of `kreid.models`.
        dataset: a `ReidDataset`.
        own: the model's scores on this test set, if they are known; see `evaluate_model`.
        max_damaged: see `evaluate_model`.
        progress: show progress bars.

    Returns:
        A `UniformAttention`. Weights are measured on tracklets of 2 to 96 selected frames.

    Raises:
        ValueError: if the weights cannot be replaced, see `kreid.models.with_uniform_attention`, or as `evaluate_model`
            does.
    """
    from kreid.models.uniform_attention import with_uniform_attention

    uniform = with_uniform_attention(model)
    if own is None:
        own = evaluate_model(model, dataset, max_damaged=max_damaged, progress=progress).protocols
    scores = evaluate_model(uniform, dataset, max_damaged=max_damaged, progress=progress).protocols
    return UniformAttention(own, scores, weight_spreads(model, dataset))


def weight_spreads(model: "TrackletModel", dataset: ReidDataset) -> dict[str, WeightSpread]:
    """Measure how unequal the weights of each attention are on the test tracklets.

    Args:
        model: a model of `kreid.models`.
        dataset: a `ReidDataset`; junk is left out, and tracklets of one frame or more than 96.

    Returns:
        A dict from the attention's name to its `WeightSpread`. Attentions over frames or clips are added up over their
        other axes, see `kreid.models.attention.time_weights`; others are measured over all of their values. An
        attention without a tracklet of two values is left out.
    """
    # TensorFlow reads the files.
    from kreid.data.evaluation_pipeline import EvaluationPipeline
    from kreid.models.attention import time_weights

    select = model.selection.positions
    tracklets = [
        one
        for one in dataset.test
        if one.person != JUNK and len(one) > 1 and 2 <= len(select(len(one))) <= _MOST_FRAMES
    ]
    declared = {name: one for name, one in model.attentions.items() if one.weights}
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in declared}
    if tracklets:
        pipeline = EvaluationPipeline(
            tracklets, model.image_size, batch_frames=_MOST_FRAMES, select=select, max_damaged=1.0
        )
        for inputs, _ in pipeline.dataset():
            batch = {name: values.numpy() for name, values in inputs.items()}
            outputs = model.explainer.predict_on_batch(batch)
            for row, length in enumerate(batch["lengths"].tolist()):
                kept = len(select(length))
                for name, one in declared.items():
                    values = np.asarray(outputs[name][row], np.float64)
                    weights = time_weights(values, one.axes, kept, model.part_frames)
                    weights = np.abs(values).ravel() if weights is None else weights
                    if len(weights) > 1:
                        measured[name].append(_unevenness(weights))
    return {name: _spread(np.array(values)) for name, values in measured.items() if values}


def _unevenness(weights: np.ndarray) -> tuple[float, float]:
    """Return the largest weight over the mean, and the entropy over that of equal weights; zeros count as equal."""
    total = weights.sum()
    shares = weights / total if total > 0 else np.full(len(weights), 1 / len(weights))
    positive = shares[shares > 0]
    return float(shares.max() * len(shares)), float(-(positive * np.log(positive)).sum() / np.log(len(shares)))


def _spread(values: np.ndarray) -> WeightSpread:
    ratios, entropies = ((float(one.min()), float(one.mean()), float(one.max())) for one in values.T)
    return WeightSpread(len(values), ratios, entropies)


def _three(values: tuple[float, float, float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)
