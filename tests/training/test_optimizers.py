"""L2 in the gradient against PyTorch's rules in float64; learning rates at the epochs where they change."""

import keras
import numpy as np
import pytest

from kreid.training import L2SGD, Config, L2Adam, build_optimizer, learning_rate

RNG = np.random.default_rng(11)
START = [RNG.normal(size=(3, 2)), RNG.normal(size=4)]
GRADIENTS = [[RNG.normal(size=(3, 2)), RNG.normal(size=4)] for _ in range(6)]


def torch_adam(lr, weight_decay, betas=(0.9, 0.999), eps=1e-8):
    """The documented steps of `torch.optim.Adam`: decay joins the gradient before both moments."""
    weights = [w.copy() for w in START]
    first = [np.zeros_like(w) for w in START]
    second = [np.zeros_like(w) for w in START]
    for step, gradients in enumerate(GRADIENTS, start=1):
        for i, gradient in enumerate(gradients):
            g = gradient + weight_decay * weights[i]
            first[i] = betas[0] * first[i] + (1 - betas[0]) * g
            second[i] = betas[1] * second[i] + (1 - betas[1]) * g * g
            hat = first[i] / (1 - betas[0] ** step), second[i] / (1 - betas[1] ** step)
            weights[i] = weights[i] - lr * hat[0] / (np.sqrt(hat[1]) + eps)
    return weights


def torch_sgd(lr, weight_decay, momentum=0.0, nesterov=False):
    """The documented steps of `torch.optim.SGD`."""
    weights = [w.copy() for w in START]
    buffers = [None] * len(START)
    for gradients in GRADIENTS:
        for i, gradient in enumerate(gradients):
            g = gradient + weight_decay * weights[i]
            if momentum:
                buffers[i] = g if buffers[i] is None else momentum * buffers[i] + g
                g = g + momentum * buffers[i] if nesterov else buffers[i]
            weights[i] = weights[i] - lr * g
    return weights


def steps(optimizer, gradients=GRADIENTS):
    variables = [keras.Variable(w.astype("float32")) for w in START]
    for one in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(g.astype("float32")) for g in one], variables)
    return [keras.ops.convert_to_numpy(v) for v in variables]


def assert_equal(found, expected, rtol=2e-5, atol=1e-6):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


def difference(one, other):
    return max(np.abs(a - b).max() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("l2", [0.0, 5e-4, 0.3])
def test_adam_is_pytorchs(l2):
    assert_equal(steps(L2Adam(0.01, l2=l2)), torch_adam(0.01, l2))


@pytest.mark.parametrize("l2", [0.0, 5e-4, 0.3])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd_is_pytorchs(l2, momentum, nesterov):
    optimizer = L2SGD(0.05, momentum=momentum, nesterov=nesterov, l2=l2)
    assert_equal(steps(optimizer), torch_sgd(0.05, l2, momentum, nesterov))


def test_l2_is_not_decoupled_decay():
    plain, coupled = steps(keras.optimizers.Adam(0.01)), steps(L2Adam(0.01, l2=0.3))
    decoupled = steps(keras.optimizers.Adam(0.01, weight_decay=0.3))
    assert difference(coupled, decoupled) > 1e-3
    assert difference(coupled, plain) > 1e-3
    assert_equal(steps(L2Adam(0.01, l2=0.0)), plain, rtol=0, atol=0)


def test_a_weight_without_gradient_is_left_alone():
    variables = [keras.Variable(w.astype("float32")) for w in START]
    optimizer = L2SGD(0.1, l2=0.5)
    optimizer.build(variables)
    optimizer.apply([keras.ops.convert_to_tensor(GRADIENTS[0][0].astype("float32")), None], variables)
    np.testing.assert_array_equal(variables[1], START[1].astype("float32"))
    assert np.abs(np.asarray(variables[0]) - START[0]).max() > 0.01


def test_built_optimizers_need_no_variables():
    variables = [keras.Variable(w.astype("float32")) for w in START]
    optimizer = L2SGD(0.05, l2=0.3)
    optimizer.build(variables)
    for one in GRADIENTS:
        optimizer.apply([keras.ops.convert_to_tensor(g.astype("float32")) for g in one])
    assert_equal([np.asarray(v) for v in variables], torch_sgd(0.05, 0.3))


@pytest.mark.parametrize("cls", [L2Adam, L2SGD])
def test_revived_optimizers_take_the_same_steps(cls):
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.01, 0.001])
    kwargs = {"momentum": 0.8} if cls is L2SGD else {"beta_1": 0.8}
    original = cls(rate, l2=0.25, **kwargs)
    revived = keras.optimizers.deserialize(keras.optimizers.serialize(original))
    assert type(revived) is cls
    assert revived.l2 == 0.25
    assert_equal(steps(revived), steps(original), rtol=0, atol=0)


@pytest.mark.parametrize("cls", [L2Adam, L2SGD])
def test_state_is_saved_with_the_model(cls, tmp_path):
    def fitted():
        keras.utils.set_random_seed(3)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        model.compile(cls(0.05, l2=0.1), "mse")
        model.fit(x, y, epochs=2, shuffle=False, verbose=0)
        return model

    x, y = RNG.normal(size=(8, 4)), RNG.normal(size=(8, 3))
    model = fitted()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert int(loaded.optimizer.iterations) == 2
    for one in (model, loaded):
        one.fit(x, y, epochs=2, shuffle=False, verbose=0)
    np.testing.assert_allclose(loaded.get_weights()[0], model.get_weights()[0], rtol=1e-6)


@pytest.mark.parametrize("cls", [L2Adam, L2SGD])
def test_negative_decay_is_refused(cls):
    with pytest.raises(ValueError, match=r"l2=-0\.1"):
        cls(0.1, l2=-0.1)


def config(**kwargs):
    return Config(system="sta", **kwargs)


def test_build_optimizer_follows_the_settings():
    adam = build_optimizer(config(weight_decay=5e-4), 10)
    assert (type(adam), adam.l2, adam.weight_decay) == (L2Adam, 5e-4, None)
    sgd = build_optimizer(config(optimizer="sgd", momentum=0.7, weight_decay=0.1), 10)
    assert (type(sgd), sgd.l2, sgd.momentum) == (L2SGD, 0.1, 0.7)
    for name, cls in (("adam", keras.optimizers.Adam), ("sgd", keras.optimizers.SGD)):
        decoupled = build_optimizer(config(optimizer=name, weight_decay_kind="decoupled", weight_decay=0.2), 10)
        assert (type(decoupled), decoupled.weight_decay) == (cls, 0.2)
    assert float(adam.learning_rate) == pytest.approx(3e-4)


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


def test_constant_schedule():
    assert learning_rate(config(learning_rate=0.5), 3) == 0.5


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"schedule": "step"}, r"decay_epochs=\[\]"),
        ({"schedule": "step", "decay_epochs": [4, 2]}, r"in order, .*Received: decay_epochs=\[4, 2\]"),
        ({"schedule": "constant", "warmup_epochs": 1}, "schedule='constant', warmup_epochs=1"),
        ({"schedule": "step", "decay_epochs": [1], "warmup_epochs": 1}, "Only the cosine schedule warms up"),
        ({"schedule": "cosine", "epochs": 3, "warmup_epochs": 3}, "warmup_epochs=3, epochs=3"),
        ({"schedule": "cosine", "warmup_epochs": -1}, "warmup_epochs=-1"),
    ],
)
def test_refused_schedules(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        build_optimizer(config(**settings), 5)
