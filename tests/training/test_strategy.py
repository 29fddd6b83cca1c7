"""A batch on several devices trains as on one; settings that several devices cannot share are refused."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kreid.training import Config, set_strategy
from kreid.training.strategy import check_shares

SCRIPT = Path(__file__).with_name("strategy_samples.py")


def config(**settings):
    return Config("baseline", **settings)


@pytest.mark.parametrize(
    ("settings", "devices", "complaint"),
    [
        ({"persons_per_batch": 5, "tracklets_per_person": 3}, 2, r"batch of 15; choose a multiple of 2.*per_batch=5"),
        (
            {"sampler": "sequences", "batch_size": 10},
            4,
            r"batch of 10; choose a multiple of 4\. Received: batch_size=10",
        ),
        ({"mining": "replica", "persons_per_batch": 5}, 2, r"multiple of 2 of at least 4, .*persons_per_batch=5"),
        ({"mining": "replica", "persons_per_batch": 2}, 2, "two persons or more.*persons_per_batch=2"),
    ],
)
def test_batches_that_devices_cannot_share(settings, devices, complaint):
    with pytest.raises(ValueError, match=complaint):
        check_shares(config(strategy="mirrored", **settings), devices)


def test_batches_that_devices_can_share():
    # Global mining needs no whole persons, and the identity loss no pairs.
    check_shares(config(strategy="mirrored", persons_per_batch=5), 4)
    check_shares(config(strategy="mirrored", persons_per_batch=8, mining="replica"), 4)
    check_shares(config(strategy="mirrored", persons_per_batch=5, mining="replica", triplet_weight=0.0), 2)
    check_shares(config(strategy="data_parallel", persons_per_batch=5), 4)


def test_a_strategy_has_its_backend(monkeypatch):
    assert set_strategy(config()) == 1
    with pytest.raises(ValueError, match=r"KERAS_BACKEND=jax before the start\. Received: strategy='data_parallel'"):
        set_strategy(config(strategy="data_parallel"))
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:1"]}}')
    with pytest.raises(ValueError, match=r"MultiWorkerMirroredStrategy.*KERAS_BACKEND=jax.*Received: TF_CONFIG="):
        set_strategy(config(strategy="mirrored"))


@pytest.mark.parametrize("settings", [{"mining": "replica"}, {"strategy": "data_parallel", "batch_norm": "replica"}])
def test_only_mirrored_models_have_replicas(settings):
    with pytest.raises(ValueError, match=r"Only strategy=mirrored has replicas.*'replica'"):
        config(**settings)


def start(backend, strategy, devices, system, init, out, *process):
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "XLA_FLAGS": flags,
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": "1",
    }
    line = [sys.executable, str(SCRIPT), strategy, str(devices), system, str(init), str(out), *process]
    return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait(process):
    _, errors = process.communicate()
    assert process.returncode == 0, errors[-3000:]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Function: backend, system -> the first weights, and the step on one device."""
    done = {}

    def run(backend, system):
        if (backend, system) not in done:
            folder = tmp_path_factory.mktemp("alone")
            init, out = folder / "init.weights.h5", folder / "out.npz"
            wait(start(backend, "single", 1, system, init, out))
            done[backend, system] = init, dict(np.load(out))
        return done[backend, system]

    return run


def assert_equal(out, expected, tolerance):
    with np.load(out) as found:
        assert set(found) == set(expected)
        for name, value in expected.items():
            # Centres start at 0, so they are the gradient times the rate; 1e-8 is the rounding of a gradient of 0.
            atol = tolerance * np.abs(value).max() + 1e-8
            np.testing.assert_allclose(found[name], value, rtol=tolerance, atol=atol, err_msg=name)


# JAX computes in float64 but for the heads; see strategy_samples.
TOLERANCE = {"tensorflow": 1e-3, "jax": 1e-5}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "strategy", "devices", "system"),
    [
        *[("tensorflow", "mirrored", 2, system) for system in ("baseline", "gltr", "mg_rafa", "rtf", "sta", "tacan")],
        ("tensorflow", "mirrored", 4, "baseline"),
        ("jax", "data_parallel", 2, "baseline"),
        ("jax", "data_parallel", 4, "gltr"),
    ],
)
def test_a_step_on_several_devices_equals_one_device(alone, tmp_path, backend, strategy, devices, system):
    init, expected = alone(backend, system)
    wait(start(backend, strategy, devices, system, init, tmp_path / "out.npz"))
    assert_equal(tmp_path / "out.npz", expected, TOLERANCE[backend])


@pytest.mark.slow
def test_two_processes_equal_one_device(alone, tmp_path):
    init, expected = alone("jax", "baseline")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    outs = [tmp_path / f"{number}.npz" for number in range(2)]
    processes = [
        start("jax", "data_parallel", 1, "baseline", init, out, str(number), address) for number, out in enumerate(outs)
    ]
    for process in processes:
        wait(process)
    for out in outs:
        assert_equal(out, expected, TOLERANCE["jax"])
