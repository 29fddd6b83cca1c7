"""Every layer keeps its contract on JAX, without TensorFlow."""

from pathlib import Path

import pytest

CODE = """
import keras, kreid
from kreid.testing import check_layer
assert keras.backend.backend() == "jax"
sys.path.insert(0, sys.argv[1])
from layer_cases import CASES
for case, (kwargs, inputs, options) in list(CASES.items())[:: int(sys.argv[2])]:
    keras.utils.set_random_seed(1)  # as in test_layer_contract
    # Three tracklets will do: every further length is compiled again, operation by operation.
    inputs = keras.tree.map_structure(lambda array: array[:3], inputs)
    check_layer(getattr(kreid.layers, case.split("/")[0]), kwargs, inputs, **options)
"""


# JAX compiles each operation; models on JAX have all layers of the systems in the fast tests.
@pytest.mark.parametrize("step", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_every_layer_keeps_its_contract(on_jax, step):
    on_jax(CODE, Path(__file__).parent, step)
