"""The recipe under `KERAS_BACKEND=jax`, against the same run on TensorFlow."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import kreid

pytest.importorskip("jax")
pytestmark = pytest.mark.slow

SETTINGS = ["schedule=constant", "seed=3"]


@pytest.fixture(scope="module")
def run_on(arguments, repository, jax_environment, tmp_path_factory):
    """Function: backend, name of a run, settings -> its folder. All runs start from one model."""
    folder = tmp_path_factory.mktemp("backends")
    init = folder / "init.keras"
    kreid.models.Baseline(kreid.backbones.build("resnet_tiny", (64, 32)), num_identities=6).save(init)

    def run(backend, name, *settings, command=(str(repository / "recipes" / "train_mars.py"),)):
        line = arguments(folder / name, f"init={init}", *SETTINGS, *settings, system="baseline", export=True)
        started = subprocess.run(
            [sys.executable, *command, *line],
            env={**os.environ, **(jax_environment if backend == "jax" else {"KERAS_BACKEND": backend})},
            capture_output=True,
            text=True,
        )
        assert started.returncode == 0, started.stderr
        assert "Traceback" not in started.stderr
        return folder / name

    return run


@pytest.fixture(scope="module")
def on_both(run_on):
    return run_on("jax", "jax"), run_on("tensorflow", "tensorflow")


def results(run):
    return json.loads((run / "results.json").read_text())


def test_both_backends_report_the_same_scores(on_both):
    ours, expected = (results(run) for run in on_both)
    assert ours["protocols"] == expected["protocols"]
    assert ours["verification"]["threshold"] == pytest.approx(expected["verification"]["threshold"], rel=0.05)


def test_the_export_embeds_as_the_model_of_jax(on_both):
    run = on_both[0]
    import tensorflow as tf

    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 32, 3), np.uint8)
    exported = tf.saved_model.load(str(run / "export" / "1")).signatures["serving_default"]
    expected = kreid.load_model(run / "model.keras").embed(frames)
    np.testing.assert_allclose(exported(frames=frames)["embedding"], expected, rtol=1e-4, atol=1e-5)
    assert kreid.serving.read_card(run / "export" / "1")["verification"] == results(run)["verification"]


def test_a_run_on_jax_continues_to_the_same_weights(on_both, run_on):
    run = run_on("jax", "continued", "epochs=1")
    (run / "results.json").unlink()
    run_on("jax", "continued")
    weights = [kreid.load_model(folder / "model.keras").get_weights() for folder in (run, on_both[0])]
    for continued, whole in zip(*weights, strict=True):
        np.testing.assert_array_equal(continued, whole)


def test_a_run_is_evaluated_on_jax(on_both, jax_environment):
    evaluated = subprocess.run(
        [sys.executable, "-c", "from kreid.cli import main; main()", "evaluate", str(on_both[0])],
        env={**os.environ, **jax_environment},
        capture_output=True,
        text=True,
    )
    assert evaluated.returncode == 0, evaluated.stderr
    assert (on_both[0] / "report" / "index.html").is_file()
