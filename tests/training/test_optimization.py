"""Optimisers by the settings; learning rates at the epochs where they change."""

import keras
import numpy as np
import pytest

from kreid.optimizers import L2SGD, L2Adam
from kreid.training import Config, build_optimizer, learning_rate


def config(**kwargs):
    return Config(system="sta", **kwargs)


def test_build_optimizer_follows_the_settings():
    adam = build_optimizer(config(weight_decay=5e-4), 10)
    assert (type(adam), adam.l2, adam.weight_decay) == (L2Adam, 5e-4, None)
    sgd = build_optimizer(config(optimizer="sgd", momentum=0.7, weight_decay=0.1), 10)
    assert (type(sgd), sgd.l2, sgd.momentum) == (L2SGD, 0.1, 0.7)
    for name, cls in (("adam", L2Adam), ("sgd", L2SGD)):
        decoupled = build_optimizer(config(optimizer=name, weight_decay_kind="decoupled", weight_decay=0.2), 10)
        assert (type(decoupled), decoupled.l2, decoupled.weight_decay) == (cls, 0.0, 0.2)
    assert float(adam.learning_rate) == pytest.approx(3e-4)


class Backbone:
    path = "net"


def test_averages_accumulation_and_the_backbones_rate_reach_the_optimizer():
    plain = build_optimizer(config(), 10)
    assert (plain.use_ema, plain.gradient_accumulation_steps, plain.get_config()["rates"]) == (False, None, {})
    optimizer = build_optimizer(config(ema_momentum=0.99, accumulate=4, backbone_rate=0.1), 10, Backbone())
    assert (optimizer.use_ema, optimizer.ema_momentum, optimizer.ema_overwrite_frequency) == (True, 0.99, None)
    assert (optimizer.gradient_accumulation_steps, optimizer.get_config()["rates"]) == (4, {"net/": 0.1})
    with pytest.raises(ValueError, match=r"model.backbone\). Received: backbone=None, backbone_rate=0.1"):
        build_optimizer(config(backbone_rate=0.1), 10)


def test_schedules_count_updates():
    """Of 7 batches an epoch, 3 of them an update: update 5 begins in batch 15, the second of epoch 3."""
    settings = {"schedule": "step", "decay_epochs": [2], "epochs": 4, "learning_rate": 1.0}
    assert rates(learning_rate(config(accumulate=3, **settings), 7), range(7)) == pytest.approx([1.0] * 5 + [0.1] * 2)
    optimizer = build_optimizer(config(accumulate=3, optimizer="sgd", **settings), 7)
    variable = keras.Variable([0.0])
    read = []
    for _ in range(18):
        read.append(float(optimizer.learning_rate))
        optimizer.apply([keras.ops.array([0.0])], [variable])
    assert read == pytest.approx([1.0] * 15 + [0.1] * 3)
    cosine = learning_rate(config(accumulate=3, schedule="cosine", epochs=3, warmup_epochs=1), 6)
    assert rates(cosine, (0, 2, 4, 6)) == pytest.approx([3e-5, 3e-4, 1.5e-4, 0.0], abs=1e-10)


def rates(schedule, numbers):
    return [float(schedule(number)) for number in numbers]


def test_step_schedule_changes_after_its_epochs():
    steps_per_epoch = 7
    schedule = learning_rate(config(schedule="step", decay_epochs=[200, 400], epochs=800), steps_per_epoch)
    first_steps = [epoch * steps_per_epoch for epoch in (0, 199, 200, 399, 400, 799)]
    expected = [3e-4, 3e-4, 3e-5, 3e-5, 3e-6, 3e-6]
    assert rates(schedule, first_steps) == pytest.approx(expected)
    last_steps = [step + steps_per_epoch - 1 for step in first_steps]
    assert rates(schedule, last_steps) == pytest.approx(expected)


def test_steps_every_so_many_epochs_go_on_to_the_last():
    every = learning_rate(config(schedule="step", decay_every=20, decay_factor=0.8, epochs=161), 3)
    listed = learning_rate(config(schedule="step", decay_epochs=list(range(20, 161, 20)), decay_factor=0.8), 3)
    steps = [0, 59, 60, 8 * 60 - 1, 8 * 60, 161 * 3 - 1]
    assert rates(every, steps) == rates(listed, steps)
    assert rates(every, steps[-1:]) == pytest.approx([0.8**8 * rates(every, [0])[0]])
    assert learning_rate(config(schedule="step", decay_every=20, epochs=20, learning_rate=0.5), 3) == 0.5


def test_cosine_schedule_falls_to_zero():
    schedule = learning_rate(config(schedule="cosine", epochs=10, learning_rate=0.2), 4)
    expected = [0.1 * (1 + np.cos(np.pi * step / 40)) for step in (0, 1, 20, 39, 40)]
    assert rates(schedule, (0, 1, 20, 39, 40)) == pytest.approx(expected, abs=1e-7)


def test_warming_up_comes_before_the_cosine():
    schedule = learning_rate(config(schedule="cosine", epochs=10, warmup_epochs=2, learning_rate=0.2), 4)
    warm = [0.02 + 0.18 * step / 8 for step in range(8)]
    cool = [0.1 * (1 + np.cos(np.pi * step / 32)) for step in range(33)]
    assert rates(schedule, range(41)) == pytest.approx(warm + cool, abs=1e-7)


def test_every_schedule_warms_up():
    # The strong baseline's: 10 epochs from a tenth, decays after epochs 40 and 70 counted from the start.
    settings = {"learning_rate": 3.5e-4, "warmup_epochs": 10, "epochs": 120}
    steps = learning_rate(config(schedule="step", decay_epochs=[40, 70], **settings), 5)
    warm = [3.5e-4 * (0.1 + 0.9 * step / 50) for step in (0, 1, 25, 49)]
    expected = [*warm, 3.5e-4, 3.5e-4, 3.5e-5, 3.5e-5, 3.5e-6]
    assert rates(steps, (0, 1, 25, 49, 50, 199, 200, 349, 350)) == pytest.approx(expected)
    constant = learning_rate(config(schedule="constant", **settings), 5)
    assert rates(constant, (0, 25, 50, 599)) == pytest.approx([3.5e-5, 3.5e-4 * 0.55, 3.5e-4, 3.5e-4])
    for schedule in (steps, constant):
        revived = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
        assert rates(revived, range(0, 400, 7)) == rates(schedule, range(0, 400, 7))


@pytest.mark.parametrize("kind", ["l2", "decoupled"])
def test_gradients_are_clipped_together(kind):
    settings = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "learning_rate": 1.0}
    optimizer = build_optimizer(config(clip_norm=1.0, weight_decay_kind=kind, **settings), 10)
    variables = [keras.Variable([0.0, 0.0]), keras.Variable([0.0])]
    optimizer.apply([keras.ops.array([3.0, 0.0]), keras.ops.array([4.0])], variables)
    np.testing.assert_allclose(np.concatenate([np.asarray(v) for v in variables]), [-0.6, 0.0, -0.8], rtol=1e-6)
    # A shorter gradient stays.
    optimizer.apply([keras.ops.array([0.1, 0.0]), keras.ops.array([0.0])], variables)
    np.testing.assert_allclose(np.asarray(variables[0]), [-0.7, 0.0], rtol=1e-6)
    assert build_optimizer(config(), 10).global_clipnorm is None
    with pytest.raises(ValueError, match=r"clip_norm=0\.0"):
        config(clip_norm=0.0)


def test_constant_schedule():
    assert learning_rate(config(learning_rate=0.5), 3) == 0.5


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"schedule": "step"}, r"decay_epochs=\[\]"),
        ({"schedule": "step", "decay_epochs": [4, 2]}, r"in order, .*Received: decay_epochs=\[4, 2\]"),
        ({"schedule": "constant", "epochs": 2, "warmup_epochs": 2}, "warmup_epochs=2, epochs=2"),
        ({"schedule": "step", "decay_epochs": [1], "warmup_epochs": -1}, "warmup_epochs=-1"),
        ({"schedule": "cosine", "epochs": 3, "warmup_epochs": 3}, "warmup_epochs=3, epochs=3"),
        ({"schedule": "cosine", "warmup_epochs": -1}, "warmup_epochs=-1"),
    ],
)
def test_refused_schedules(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        build_optimizer(config(**settings), 5)
