"""The same values and gradients on JAX. Keras reads its backend once, so this needs a separate process."""

import functools
import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from kreid.distances import pairwise_cosine, pairwise_euclidean
from kreid.losses import (
    BatchHardTriplet,
    Circle,
    Contrastive,
    LiftedStructure,
    MinMax,
    MultiSimilarity,
    NPairs,
    SemiHardTriplet,
    SmoothedIdentity,
    WeightedSum,
)
from kreid.testing._common import gradient_function
from kreid.testing.losses import check_loss

CASES = {
    "triplet": (BatchHardTriplet, {}),
    "triplet_soft": (BatchHardTriplet, {"margin": "soft", "distance": "squared_euclidean", "reduction": "sum"}),
    "semi_hard": (SemiHardTriplet, {"distance": "cosine"}),
    "contrastive": (Contrastive, {"miner": "hard"}),
    "lifted": (LiftedStructure, {}),
    "n_pairs": (NPairs, {"miner": "one"}),
    "multi_similarity": (MultiSimilarity, {}),
    "circle": (Circle, {"scale": 8.0}),
    "min_max": (MinMax, {}),
    "identity": (SmoothedIdentity, {"smoothing": 0.2}),
    "sum": (WeightedSum, {"losses": [SmoothedIdentity(), BatchHardTriplet("soft")], "weights": [0.5, 2.0]}),
}
# The contract takes seconds a loss; the other metric losses differ from these in their pure functions alone.
UNDER_CONTRACT = ("triplet", "triplet_soft", "min_max", "identity", "sum")


def results():
    """Returns values and gradients of everything; the last two embeddings are equal."""
    random = np.random.default_rng(0)
    labels = np.array([0, 1, 2, 0, 1, 5, 3, 3], "int32")
    outputs = random.normal(size=(8, 6)).astype("float32")
    outputs[-1] = outputs[-2]
    functions = {name: functools.partial(loss(**kwargs), labels) for name, (loss, kwargs) in CASES.items()}
    functions.update({function.__name__: function for function in (pairwise_euclidean, pairwise_cosine)})
    found = {}
    for name, function in functions.items():
        found[name], found[name + "_gradient"], _ = gradient_function(function, jit=True)(outputs)
    return labels, outputs, found


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed: pip install jax")
@pytest.mark.parametrize("contract", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_jax_gives_equal_values_and_gradients_and_keeps_the_contract(jax_environment, tmp_path, contract):
    file = tmp_path / "jax.npz"
    environment = {**os.environ, **jax_environment}
    names = UNDER_CONTRACT if contract else ()
    ran = subprocess.run(
        [sys.executable, __file__, str(file), *map(str, names)], env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    _, _, expected = results()
    with np.load(file) as found:
        assert sorted(found) == sorted(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


if __name__ == "__main__":
    assert keras.backend.backend() == "jax"
    labels, outputs, found = results()
    for name in sys.argv[2:]:
        loss_class, kwargs = CASES[name]
        check_loss(loss_class, kwargs, labels, outputs)
    np.savez(sys.argv[1], **found)
