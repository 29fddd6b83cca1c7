"""How far the attentions of a model are from a plain mean, in the log of every epoch."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np


def attention_spread(values: np.ndarray) -> dict[str, float]:
    """Measure how unequal the weights of an attention are, as means over tracklets.

    Args:
        values: weights `(batch, ...)`, none of them padding.

    Returns:
        `spread`, the standard deviation over the mean: 0 where all weights are equal, and also where all are 0, as for
        a dead ReLU; and `effective`, `(sum w)^2 / sum w^2`, the number of positions that count: all of them where the
        weights are equal, 1 where one has all the weight, 0 for zeros.

    Example:

    >>> {name: round(value, 2) for name, value in kreid.training.attention_spread(np.array([[0.5, 0.5, 1.0]])).items()}
    {'spread': 0.35, 'effective': 2.67}
    """
    weights = np.abs(np.asarray(values, "float64").reshape(len(values), -1))
    mean, squares = weights.mean(axis=1), (weights**2).sum(axis=1)
    spread = np.divide(weights.std(axis=1), mean, out=np.zeros_like(mean), where=mean > 0)
    effective = np.divide(weights.sum(axis=1) ** 2, squares, out=np.zeros_like(mean), where=squares > 0)
    return {"spread": float(spread.mean()), "effective": float(effective.mean())}


class AttentionLog(keras.callbacks.Callback):
    """Add to the logs how unequal each attention's weights are on one batch, to show an attention that collapsed.

    For every attention of weights that the model declares, `attention_NAME_spread` and `attention_NAME_effective`, see
    `attention_spread`. A spread of 0 is a plain mean (and for RTF's `inter` a dead relation network); an effective
    number near 1 is one frame or node alone. `attention_maps_1_effective` of MG-RAFA counts the nodes of its first
    granularity, by their weights averaged over the channels.

    Args:
        batch: inputs by name, as the model's `explainer` takes them, of tracklets without padding.

    Example:

    >>> backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32))
    >>> model = kreid.models.Baseline(backbone, num_identities=10)
    >>> log = kreid.training.AttentionLog({"frames": np.zeros((2, 4, 64, 32, 3), "uint8"), "lengths": np.array([4, 4])})
    >>> log.set_model(model)
    >>> logs = {}
    >>> log.on_epoch_end(0, logs)
    >>> {name: round(value, 2) for name, value in logs.items()}
    {'attention_frames_spread': 0.0, 'attention_frames_effective': 4.0}
    """

    def __init__(self, batch: Mapping[str, Any]) -> None:
        super().__init__()
        self.batch = {name: np.asarray(batch[name]) for name in ("frames", "lengths")}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measure the attentions after an epoch."""
        names = [name for name, declared in self.model.attentions.items() if declared.weights]
        if logs is None or not names:
            return
        explained = self.model.explainer.predict_on_batch(self.batch)
        for name in names:
            for measure, value in attention_spread(explained[name]).items():
                logs[f"attention_{name}_{measure}"] = value
