"""L2 in the gradient against PyTorch's rules in float64."""

import keras
import numpy as np
import pytest

from kreid.optimizers import L2SGD, L2Adam

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


@pytest.mark.filterwarnings("ignore:Gradients do not exist:UserWarning")  # The case that is tested.
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
