"""A run that continues, with all settings that keep something from step to step."""

import numpy as np
import pytest
from recipe_samples import load_recipe

import kreid

main = load_recipe("train_mars").main

SETTINGS = [
    "schedule=constant",
    "steps_per_epoch=3",
    "ema_momentum=0.9",
    "accumulate=2",
    "backbone_rate=0.3",
    "frozen_epochs=1",
    "unfreeze_every=1",
    "freeze_batch_norm=true",
    "clip_norm=1.0",
    "early_stopping=9",
    "brightness=0.2",
    "hue=0.1",
    "rand_augment=1",
]


def values(path):
    model = kreid.load_model(path)
    return [np.asarray(variable) for variable in (*model.weights, *model.optimizer.variables)]


@pytest.mark.slow
def test_a_continued_run_is_bit_identical(arguments, tmp_path):
    """Interrupted inside an accumulation and between two stages that start."""

    def train(name, epochs):
        main(arguments(tmp_path / name, *SETTINGS, f"epochs={epochs}", system="baseline"))

    train("whole", 3)
    train("parts", 1)
    (tmp_path / "parts" / "results.json").unlink()  # as if it had been interrupted before them
    train("parts", 3)
    whole, parts = (values(tmp_path / name / "checkpoints" / "epoch_3.keras") for name in ("whole", "parts"))
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)
    # The averages are reported.
    models = [kreid.load_model(tmp_path / name / "model.keras") for name in ("whole", "parts")]
    own = kreid.load_model(tmp_path / "whole" / "checkpoints" / "epoch_3.keras")
    assert not models[0].compiled
    for one, other in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.abs(models[0].classifier.kernel - own.classifier.kernel).max() > 1e-6
