"""Averaged weights in a model for a while, in held-out scores and in what a run reports."""

import keras
import numpy as np
import pytest

import kreid
from kreid.optimizers import L2SGD
from kreid.training import Config, RunFolder, averaged_model, averaged_weights
from kreid.training.callbacks import Checkpoint, HoldoutEvaluation


@pytest.fixture(scope="module")
def model():
    """A model whose weights moved away from their averages; one value adds and subtracts with a rounding error."""
    keras.utils.set_random_seed(4)
    backbone = kreid.backbones.build("resnet_tiny", image_size=(32, 32), width=8)
    model = kreid.models.Baseline(backbone, 2)
    model.compile(L2SGD(0.1, use_ema=True, ema_momentum=0.5), {"logits": "mse"})
    model.optimizer.build(model.trainable_variables)
    for variable, average in model.optimizer.averages():
        average.assign(np.random.default_rng(0).normal(size=variable.shape))
    return model


def test_fit_averages_from_its_first_step():
    """A weight that grows by 1 with each step, and its average with the momentum `min(0.5, u / (u + 9))`."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    model.compile(L2SGD(1.0, use_ema=True, ema_momentum=0.5), "mae", jit_compile=False)
    model.fit(np.ones((5, 1)), np.full((5, 1), 90.0), batch_size=1, verbose=0)
    average = 1.0
    for update in range(5):
        share = min(0.5, update / (update + 9))
        average = share * average + (1 - share) * (2.0 + update)
    # Keras sets the weights to their averages at the end.
    np.testing.assert_allclose(model.get_weights()[0], [[average]], rtol=1e-6)


def values(variables):
    return [np.asarray(variable) for variable in variables]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_averages_are_there_for_a_while(model):
    own, state = values(model.weights), values(model.optimizer.variables)
    averages = {id(variable): np.asarray(average) for variable, average in model.optimizer.averages()}
    assert len(averages) == len(model.trainable_variables)
    with pytest.raises(KeyError), averaged_weights(model):
        # What is not trained stays: the moving statistics of batch normalisation.
        expected = [averages.get(id(v), value) for v, value in zip(model.weights, own, strict=True)]
        assert_same(values(model.weights), expected)
        raise KeyError
    assert_same(values(model.weights), own)
    assert_same(values(model.optimizer.variables), state)


def test_a_copy_has_the_averages(model):
    own = values(model.weights)
    copy = averaged_model(model)
    assert not copy.compiled
    with averaged_weights(model):
        assert_same(values(copy.weights), values(model.weights))
    assert_same(values(model.weights), own)


def test_models_without_averages_stay(model):
    plain = kreid.models.Baseline.from_config(model.get_config())
    for optimizer in (None, "sgd", L2SGD(0.1)):
        if optimizer is not None:
            plain.compile(optimizer, {"logits": "mse"})
        own = values(plain.weights)
        with averaged_weights(plain):
            assert_same(values(plain.weights), own)


def test_the_averages_are_reported_and_the_checkpoint_has_both(model, tmp_path):
    run = RunFolder(tmp_path, Config("baseline", ema_momentum=0.5))
    run.begin()
    callback = Checkpoint(run.checkpoints)
    callback.set_model(model)
    callback.on_epoch_end(0, {"holdout_map": 0.5})
    restored = run.restored_model(10)
    assert_same(values(restored.weights), values(model.weights))
    assert_same(values(restored.optimizer.variables), values(model.optimizer.variables))
    for select in ("last", "best"):
        _, reported = run.selected_model(select)
        with averaged_weights(model):
            assert_same(values(reported.weights), values(model.weights))


def test_the_averages_are_evaluated(model, monkeypatch):
    seen = []

    def evaluate_model(model, *_, **__):
        seen.extend(values(model.weights))
        raise KeyError

    monkeypatch.setattr("kreid.evaluation.evaluate_model", evaluate_model)
    callback = HoldoutEvaluation(object())
    callback.set_model(model)
    with pytest.raises(KeyError):
        callback.on_epoch_end(0, {})
    with averaged_weights(model):
        assert_same(seen, values(model.weights))


def test_loss_scaling_wraps_the_averages(model):
    scaled = kreid.models.Baseline.from_config(model.get_config())
    optimizer = keras.optimizers.LossScaleOptimizer(L2SGD(0.1, use_ema=True, ema_momentum=0.5))
    scaled.compile(optimizer, {"logits": "mse"})
    optimizer.build(scaled.trainable_variables)
    for _, average in optimizer.inner_optimizer.averages():
        average.assign(np.full(average.shape, 7.0))
    with averaged_weights(scaled):
        assert (np.asarray(scaled.classifier.kernel) == 7).all()
