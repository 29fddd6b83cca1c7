"""Fixtures that several folders share."""

import gc
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

# Before any test imports TensorFlow: no start-up notices, and the CPU even where there is a GPU.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
# pytest-xdist's processes share the cores; OpenMP's threads would turn in a loop while they wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests press Ctrl-C; a shell's background job, and what it starts, ignores that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    """Options of `-m conformance`; pytest reads them here only, whichever folder is tested."""
    group = parser.getgroup("conformance", "the server that `-m conformance` asks")
    group.addoption("--address", metavar="HOST:PORT", help="of the server (default: an embedded one is started)")
    group.addoption("--model", default="kreid", help="name of the model on it (default: %(default)s)")
    group.addoption("--label", help="a version label that it knows")
    group.addoption("--tls-ca", metavar="FILE", help="connect by TLS; PEM file of the authorities to trust")
    group.addoption("--token-file", metavar="FILE", help="file whose first line is a bearer token")


def pytest_collection_finish():
    """Collect garbage less often: of the modules imported by now nothing will go, and models are many small objects."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="session", autouse=True)
def _lean_processes():
    """What tests start finds kreid in any folder and reads `tests/lean/sitecustomize.py`; xdist's workers do not."""
    tests = Path(__file__).parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{tests / 'lean'}{os.pathsep}{tests.parent}", prepend=os.pathsep)
        yield


@pytest.fixture(scope="module", autouse=True)
def _same_draws():
    """A file's tests draw the same weights in every run: a few ReLU units may all be dead by chance.

    Not before each test: TensorFlow forgets all its kernels with each seed.
    """
    import keras

    keras.utils.set_random_seed(1)


@pytest.fixture(scope="session")
def repository():
    """The repository's root, where recipes and serving scripts are."""
    return Path(__file__).parents[1]


@pytest.fixture
def golden():
    """Reads reference values that other implementations gave, or skips the test where they are not at hand."""
    folder = Path(os.environ.get("KREID_GOLDEN", "."))

    def read(name):
        if not (folder / name).is_file():
            pytest.skip(f"no reference values {name}; set KREID_GOLDEN to their folder")
        return np.load(folder / name)

    return read


@pytest.fixture(scope="module")
def eagerly():
    """Models run op by op: for the files that make one small model after the other and call each a few times.

    Tracing their graphs takes more than half of the time there. One whole run, all exports and each system's training
    in `tests/models` have the graphs.
    """
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def in_graphs(eagerly):
    """A test among those of `eagerly` that has graphs after all."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(False)
    yield
    tf.config.run_functions_eagerly(True)


@pytest.fixture(scope="session")
def jax_environment():
    """Environment variables of a process with the JAX backend."""
    # Compiling operation by operation is most of the time: the compiler need not optimize.
    return {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}


@pytest.fixture
def on_jax(jax_environment):
    """Function: code, arguments -> runs the code in a process with the JAX backend and without TensorFlow."""
    if importlib.util.find_spec("jax") is None:
        pytest.skip("JAX is not installed: pip install jax")

    def run(code, *arguments):
        code = f"import sys\nsys.modules['tensorflow'] = None  # importing it now fails\n{code}"
        ran = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            env={**os.environ, **jax_environment},
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr

    return run
