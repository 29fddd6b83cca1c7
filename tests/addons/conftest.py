"""What the tests of the bridge share."""

import importlib.util
import subprocess
import sys

import pytest


@pytest.fixture(scope="session")
def with_addons():
    """Skips a test without TensorFlow Addons; the bridge imports only its losses."""
    if importlib.util.find_spec("tensorflow_addons") is None:
        pytest.skip("TensorFlow Addons is not installed: make test-addons")


@pytest.fixture(scope="session")
def tf_keras():
    """Keras 2."""
    return pytest.importorskip("tf_keras", reason="tf-keras is not installed: make test-addons")


@pytest.fixture
def fresh():
    """Function: code -> runs it in a new process, and returns what it prints."""

    def run(code):
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip()

    return run
