"""L2 in the gradient against PyTorch's rules in float64."""

import functools
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

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


def named_variables():
    variables = [keras.Variable(w.astype("float32")) for w in START]
    for variable, path in zip(variables, ("net/stage1/kernel", "head/bias"), strict=True):
        variable._path = path
    return variables


def applied(optimizer, variables, gradients=GRADIENTS):
    for one in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(g.astype("float32")) for g in one], variables)
    return [np.asarray(v) for v in variables]


def test_a_path_has_its_own_rate():
    for optimizer, reference in (
        (L2Adam(0.01, l2=0.3, rates={"net/": 0.1}), functools.partial(torch_adam, weight_decay=0.3)),
        (
            L2SGD(0.05, momentum=0.9, l2=0.3, rates={"net/": 7.0, "net/stage1/": 0.1}),
            functools.partial(torch_sgd, weight_decay=0.3, momentum=0.9),
        ),
    ):
        rate = 0.01 if isinstance(optimizer, L2Adam) else 0.05
        revived = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
        found = applied(optimizer, named_variables())
        assert_equal(found, [reference(0.1 * rate)[0], reference(rate)[1]])
        assert_equal(applied(revived, named_variables()), found, rtol=0, atol=0)


def test_decoupled_decay_follows_the_own_rate():
    weights = [w.copy() for w in START]
    for gradients in GRADIENTS:
        for i, rate in enumerate((0.005, 0.05)):
            weights[i] = weights[i] * (1 - rate * 0.3) - rate * gradients[i]
    optimizer = L2SGD(0.05, weight_decay=0.3, rates={"net/": 0.1})
    assert_equal(applied(optimizer, named_variables()), weights)
    plain = steps(keras.optimizers.Adam(0.01, weight_decay=0.3))
    assert_equal(steps(L2Adam(0.01, weight_decay=0.3)), plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("cls", "options", "kernel"),
    [
        (L2Adam, {"weight_decay": 0.1, "global_clipnorm": 1.0, "epsilon": 1e-3}, True),
        (L2Adam, {"gradient_accumulation_steps": 3, "clipnorm": 0.5, "loss_scale_factor": 4.0}, True),
        (L2Adam, {"amsgrad": True}, False),
        (L2SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "clipvalue": 0.5}, True),
        (L2SGD, {"momentum": 0.9}, True),
        (L2SGD, {}, False),
    ],
)
def test_a_step_is_one_kernel_and_equals_keras(cls, options, kernel):
    rng = np.random.default_rng(5)
    # Gradients of different sizes, as an epsilon in another place would hide behind large ones.
    gradients = [[rng.normal(size=(3, 2)) * 10.0 ** rng.integers(-6, 1), rng.normal(size=4)] for _ in range(50)]
    plain = {L2Adam: keras.optimizers.Adam, L2SGD: keras.optimizers.SGD}[cls]
    rate = keras.optimizers.schedules.CosineDecay(0.05, 50)
    if "gradient_accumulation_steps" in options:
        rate = 0.01  # Keras's schedules count batches.
    optimizers = [kind(rate, **options) for kind in (cls, plain)]
    found, expected = (applied(optimizer, named_variables(), gradients) for optimizer in optimizers)
    # The kernel's 1 - beta_2 is that of float32: 1.3e-5 from Keras's 0.001.
    assert_equal(found, expected, rtol=1e-5, atol=1e-5)
    for one, other in zip(optimizers[0].variables, optimizers[1].variables, strict=True):
        assert one.path.split("/")[1:] == other.path.split("/")[1:]
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6, err_msg=one.path)

    variables = named_variables()
    optimizer = cls(rate, **options)
    optimizer.build(variables)
    graph = tf.function(lambda: optimizer.apply([tf.ones(v.shape) for v in variables], variables))
    types = {operation.type for operation in graph.get_concrete_function().graph.get_operations()}
    for function in graph.get_concrete_function().graph._functions.values():
        types |= {node.op for node in function.definition.node_def}
    assert any(name.startswith("ResourceApply") for name in types) == kernel


def test_rates_that_cannot_be():
    with pytest.raises(ValueError, match=r"at least 0. Received: rates={'net/': -0.1}"):
        L2Adam(0.1, rates={"net/": -0.1})
    for name in ("rates", "starts"):
        with pytest.raises(ValueError, match=rf"path that starts so. Received: {name}={{'nest/': 2}}"):
            L2Adam(0.1, **{name: {"nest/": 2}}).build(named_variables())


def test_a_frozen_weight_starts_as_if_the_optimiser_were_new():
    late = 2
    expected = [torch_adam(0.01, 0.3)[0]]
    with_late = GRADIENTS[late:]
    weights, first, second = START[1].copy(), 0.0, 0.0
    for step, (_, gradient) in enumerate(with_late, start=1):
        g = gradient + 0.3 * weights
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g * g
        weights = weights - 0.01 * first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    expected.append(weights)
    variables = named_variables()
    optimizer = L2Adam(0.01, l2=0.3, starts={"head/": late})
    optimizer.build(variables)
    variables[1].trainable = False
    applied(optimizer, variables[:1], [one[:1] for one in GRADIENTS[:late]])
    np.testing.assert_array_equal(variables[1], START[1].astype("float32"))
    variables[1].trainable = True
    # The correction of a small step loses digits: 1 - 0.999 in float32.
    assert_equal(applied(optimizer, variables, with_late), expected, rtol=1e-4, atol=1e-6)
    assert keras.optimizers.deserialize(keras.optimizers.serialize(optimizer)).get_config()["starts"] == {"head/": 2}


@pytest.mark.parametrize("batches", [1, 2])
def test_averages_follow_the_updates(batches):
    """Of SGD: the weights, and their average with the momentum `min(0.3, u / (u + 9))` of update u."""
    weights = [w.copy() for w in START]
    averages = [w.copy() for w in START]
    for update in range(len(GRADIENTS) // batches):
        for i in range(2):
            own = [one[i] for one in GRADIENTS[update * batches : (update + 1) * batches]]
            # The schedule's rate falls after the second update.
            weights[i] = weights[i] - (0.1 if update < 2 else 0.05) * sum(own) / batches
            share = min(0.3, update / (update + 9))
            averages[i] = share * averages[i] + (1 - share) * weights[i]
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.1, 0.05])
    optimizer = L2SGD(
        schedule, use_ema=True, ema_momentum=0.3, gradient_accumulation_steps=batches if batches > 1 else None
    )
    variables = named_variables()
    assert_equal(applied(optimizer, variables), weights)
    assert_equal([np.asarray(average) for _, average in optimizer.averages()], averages)
    optimizer.finalize_variable_values(variables[1:])
    assert_equal([np.asarray(v) for v in variables], [weights[0], averages[1]])
    assert L2SGD(0.1).averages() == []


@pytest.mark.parametrize("cls", [L2Adam, L2SGD])
def test_training_continues_bit_for_bit(cls, tmp_path):
    """Saved inside an accumulation, with averages, an own rate and a layer that is frozen at first."""

    def trained(model, first, last):
        for step in range(first, last):
            model.get_layer("first").trainable = step >= 4
            if step in (first, 4):
                model.make_train_function(force=True)
            model.train_on_batch(x[step], y[step])
        model.get_layer("first").trainable = True
        return model

    x, y = RNG.normal(size=(8, 4, 4)).astype("float32"), RNG.normal(size=(8, 4, 3)).astype("float32")
    layers = [keras.layers.Dense(5, name="first"), keras.layers.Dense(3, name="second")]
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers[1](layers[0](inputs)))
    options = {"starts": {"first/": 2}} if cls is L2Adam else {"momentum": 0.9}
    rates = {"second/": 0.5}
    optimizer = cls(0.05, l2=0.1, rates=rates, use_ema=True, ema_momentum=0.9, gradient_accumulation_steps=2, **options)
    model.compile(optimizer, "mse", jit_compile=False)
    optimizer.build(model.trainable_variables)
    first = np.asarray(layers[0].kernel)
    trained(model, 0, 3)
    np.testing.assert_array_equal(layers[0].kernel, first)
    model.save(tmp_path / "model.keras")
    continued = trained(keras.models.load_model(tmp_path / "model.keras"), 3, 8)
    trained(model, 3, 8)
    assert np.abs(np.asarray(layers[0].kernel) - first).max() > 1e-3
    for one, other in zip(
        [*model.weights, *model.optimizer.variables],
        [*continued.weights, *continued.optimizer.variables],
        strict=True,
    ):
        np.testing.assert_array_equal(one, other, err_msg=one.path)


@pytest.mark.slow
def test_mirrored_devices_clip_the_whole_gradient():
    code = """
import numpy as np, keras, tensorflow as tf
from kreid.optimizers import L2Adam
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
x, y = np.random.default_rng(0).normal(size=(2, 32, 4)).astype("float32")
found = []
for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
        optimizer = L2Adam(0.05, l2=0.1, use_ema=True, ema_momentum=0.9, global_clipnorm=0.1, epsilon=0.1)
        model.compile(optimizer, "mse", jit_compile=False)
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    found.append(model.get_weights())
for one, other in zip(*found):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.slow
def test_jax_takes_the_same_steps(on_jax, tmp_path):
    """Frozen at first, accumulated, averaged and decayed: as TensorFlow trains it."""
    code = """
import sys
import numpy as np, keras
from kreid.optimizers import L2Adam
keras.utils.set_random_seed(0)
layers = [keras.layers.Dense(5, name="first"), keras.layers.Dense(3, name="second")]
inputs = keras.Input((4,))
model = keras.Model(inputs, layers[1](layers[0](inputs)))
rng = np.random.default_rng(0)
model.set_weights([rng.normal(size=w.shape).astype("float32") for w in model.get_weights()])
rates, starts = {"second/": 0.5}, {"first/": 2}
optimizer = L2Adam(
    0.05, weight_decay=0.1, rates=rates, starts=starts, use_ema=True, ema_momentum=0.9, gradient_accumulation_steps=2
)
model.compile(optimizer, "mse", jit_compile=False)
optimizer.build(model.trainable_variables)
for step in range(8):
    layers[0].trainable = step >= 4
    if step in (0, 4):
        model.make_train_function(force=True)
    model.train_on_batch(rng.normal(size=(4, 4)).astype("float32"), rng.normal(size=(4, 3)).astype("float32"))
layers[0].trainable = True
values = [keras.ops.convert_to_numpy(v) for v in [*model.weights, *(a for _, a in optimizer.averages())]]
np.savez(sys.argv[1], *values)
"""
    on_jax(code, tmp_path / "jax.npz")
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "tf.npz")], check=True, capture_output=True)
    with np.load(tmp_path / "jax.npz") as one, np.load(tmp_path / "tf.npz") as other:
        assert len(one.files) == 8
        for name in one.files:
            np.testing.assert_allclose(one[name], other[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_l2_is_not_decoupled_decay():
    plain, coupled = steps(keras.optimizers.Adam(0.01)), steps(L2Adam(0.01, l2=0.3))
    decoupled = steps(keras.optimizers.Adam(0.01, weight_decay=0.3))
    assert difference(coupled, decoupled) > 1e-3
    assert difference(coupled, plain) > 1e-3
    assert_equal(steps(L2Adam(0.01, l2=0.0)), plain, rtol=1e-5, atol=1e-6)


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
