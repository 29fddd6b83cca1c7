"""Every layer keeps its contract on JAX, without TensorFlow."""

from pathlib import Path

CODE = """
import keras, kreid
from kreid.testing import check_layer
assert keras.backend.backend() == "jax"
sys.path.insert(0, sys.argv[1])
from layer_cases import CASES
for case, (kwargs, inputs, options) in CASES.items():
    keras.utils.set_random_seed(1)  # as in test_layer_contract
    # Three tracklets will do: every further length is compiled again, operation by operation.
    inputs = keras.tree.map_structure(lambda array: array[:3], inputs)
    check_layer(getattr(kreid.layers, case.split("/")[0]), kwargs, inputs, **options)
"""


def test_every_layer_keeps_its_contract(on_jax):
    on_jax(CODE, Path(__file__).parent)
