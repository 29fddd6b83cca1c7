"""The metric losses against loops; `test_batch_hard_triplet.py` has the one with tests of its own."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops
from loss_oracles import (
    circle_terms,
    contrastive_terms,
    lifted_terms,
    mean_of_terms,
    multi_similarity_terms,
    n_pairs_terms,
    numeric_gradient,
    semi_hard_terms,
    values_of_terms,
)

import kreid.losses
from kreid.losses import (
    Circle,
    Contrastive,
    LiftedStructure,
    MetricLoss,
    MultiSimilarity,
    NPairs,
    SemiHardTriplet,
)
from kreid.testing.losses import check_loss, value_and_gradient

LABELS = np.array([3, 1, 3, 2, 1, 1, 2, 9], "int32")  # 9 has no positive, and 1 has three
ORACLES = {
    SemiHardTriplet: semi_hard_terms,
    Contrastive: contrastive_terms,
    LiftedStructure: lifted_terms,
    NPairs: n_pairs_terms,
    MultiSimilarity: multi_similarity_terms,
    Circle: circle_terms,
}
CASES = {
    "semi_hard": (SemiHardTriplet, {"margin": 0.3, "distance": "euclidean"}),
    "semi_hard_soft": (SemiHardTriplet, {"margin": "soft", "distance": "squared_euclidean"}),
    "semi_hard_cosine": (SemiHardTriplet, {"margin": 0.5, "distance": "cosine"}),
    "contrastive": (Contrastive, {"margin": 3.0, "distance": "euclidean", "miner": "all"}),
    "contrastive_hard": (Contrastive, {"margin": 1.0, "distance": "cosine", "miner": "hard"}),
    "contrastive_squared": (Contrastive, {"margin": 9.0, "distance": "squared_euclidean", "miner": "all"}),
    "lifted": (LiftedStructure, {"margin": 1.0, "distance": "euclidean"}),
    "lifted_squared": (LiftedStructure, {"margin": 2.0, "distance": "squared_euclidean"}),
    "lifted_cosine": (LiftedStructure, {"margin": 0.5, "distance": "cosine"}),
    "n_pairs": (NPairs, {"distance": "dot", "miner": "all"}),
    "n_pairs_one": (NPairs, {"distance": "dot", "miner": "one"}),
    "n_pairs_euclidean": (NPairs, {"distance": "euclidean", "miner": "all"}),
    "n_pairs_squared": (NPairs, {"distance": "squared_euclidean", "miner": "one"}),
    "n_pairs_cosine": (NPairs, {"distance": "cosine", "miner": "all"}),
    "multi_similarity": (MultiSimilarity, {}),
    "multi_similarity_all": (MultiSimilarity, {"alpha": 1.5, "beta": 10, "base": -0.2, "miner": "all"}),
    "multi_similarity_hard": (MultiSimilarity, {"base": -2.0, "beta": 3.0, "distance": "euclidean", "miner": "hard"}),
    "multi_similarity_squared": (MultiSimilarity, {"beta": 2.0, "distance": "squared_euclidean", "epsilon": 2.0}),
    "circle": (Circle, {"margin": 0.4, "scale": 20.0}),
    "circle_hard": (Circle, {"miner": "hard"}),
}
COSINE = ["semi_hard_cosine", "contrastive_hard", "lifted_cosine", "n_pairs_cosine", "multi_similarity", "circle"]


def embeddings(seed=0, features=5, batch=8):
    return np.random.default_rng(seed).normal(size=(batch, features)).astype("float32")


def terms(name, labels, x, **constant):
    """Returns the terms by loops, with the loss's own defaults."""
    loss_class, kwargs = CASES[name]
    oracle = ORACLES[loss_class]
    config = {**loss_class(**kwargs).get_config(), **constant}
    return oracle(labels, x, **{key: config[key] for key in inspect.signature(oracle).parameters if key in config})


def test_every_metric_loss_has_a_case():
    public = {getattr(kreid.losses, name) for name in kreid.losses.__all__}
    losses = {one for one in public if isinstance(one, type) and issubclass(one, MetricLoss)}
    assert losses - {MetricLoss, kreid.losses.BatchHardTriplet} == set(ORACLES)
    assert {loss_class for loss_class, _ in CASES.values()} == set(ORACLES)


@pytest.mark.parametrize("name", CASES)
def test_values_equal_loops(name):
    loss_class, kwargs = CASES[name]
    function = getattr(kreid.losses, loss_class().name)
    for seed in range(3):
        x = embeddings(seed)
        found = terms(name, LABELS, x)
        np.testing.assert_allclose(function(LABELS, x, **kwargs), values_of_terms(found), rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(loss_class(**kwargs)(LABELS, x), mean_of_terms(found), rtol=2e-5)


@pytest.mark.parametrize("name", CASES)
def test_gradient_equals_differences(name):
    loss_class, kwargs = CASES[name]
    x = embeddings()
    constant = {"weights_at": x} if loss_class is Circle else {}
    _, gradient = value_and_gradient(loss_class(**kwargs), LABELS, x)
    expected = numeric_gradient(lambda inputs: mean_of_terms(terms(name, LABELS, inputs, **constant)), x)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["semi_hard", "contrastive", "lifted", "n_pairs_one", "multi_similarity", "circle"])
def test_every_reduction_is_over_the_same_terms(name):
    loss_class, kwargs = CASES[name]
    x = embeddings()
    found = terms(name, LABELS, x)
    numbers = np.array([len(one) for one in found])
    values, weights = values_of_terms(found), np.arange(1.0, len(LABELS) + 1)
    expected = {
        "sum": ((values * numbers).sum(), (values * numbers * weights).sum()),
        "mean_with_sample_weight": (None, (values * numbers * weights).sum() / (numbers * weights).sum()),
        None: (values, values * weights),
    }
    expected["sum_over_batch_size"] = (expected["sum"][0] / numbers.sum(), expected["sum"][1] / numbers.sum())
    for reduction, (plain, weighted) in expected.items():
        loss = loss_class(**kwargs, reduction=reduction)
        if plain is not None:
            np.testing.assert_allclose(loss(LABELS, x), plain, rtol=2e-5, atol=1e-6)
        for shape in ((-1,), (-1, 1)):
            np.testing.assert_allclose(loss(LABELS, x, weights.reshape(shape)), weighted, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("labels", [[1, 1, 1], [1, 2, 3]])
@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("contrastive")])
def test_a_batch_without_terms_gives_zero(name, labels):
    loss_class, kwargs = CASES[name]
    for reduction in ("sum", "sum_over_batch_size", "mean_with_sample_weight"):
        loss = loss_class(**kwargs, reduction=reduction)
        value, gradient = value_and_gradient(loss, np.array(labels), embeddings(batch=3))
        assert value == 0
        np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("labels", [[1], [1, 1, 1], [1, 2, 3]])
@pytest.mark.parametrize("name", ["contrastive", "contrastive_hard"])
def test_contrastive_pairs_need_no_third(name, labels):
    loss_class, kwargs = CASES[name]
    x = embeddings(batch=len(labels))
    value, gradient = value_and_gradient(loss_class(**kwargs), np.array(labels), x)
    np.testing.assert_allclose(value, mean_of_terms(terms(name, labels, x)) if len(labels) > 1 else 0, rtol=1e-5)
    assert (np.abs(gradient).max() > 0) == (len(labels) > 1)


@pytest.mark.parametrize("norm", [0.0, 30.0])
@pytest.mark.parametrize("name", CASES)
def test_equal_embeddings(name, norm):
    loss_class, kwargs = CASES[name]
    labels, x = np.repeat([0, 1], 4), np.full((8, 64), norm / 8, "float32")
    value, gradient = value_and_gradient(loss_class(**kwargs), labels, x)
    np.testing.assert_allclose(value, mean_of_terms(terms(name, labels, x)), rtol=1e-5)
    assert np.isfinite(gradient).all()
    if norm == 0 or loss_class(**kwargs).get_config().get("distance") != "dot":
        np.testing.assert_allclose(gradient, 0, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_large_labels_are_told_apart(name):
    loss_class, kwargs = CASES[name]
    labels = np.array([16_777_216, 16_777_216, 16_777_217, 16_777_217])
    x = embeddings(batch=4)
    loss = loss_class(**kwargs)
    assert float(loss(labels, x)) == float(loss([0, 0, 1, 1], x)) != 0.0


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("name", CASES)
def test_embeddings_of_any_scale(name, scale):
    loss_class, kwargs = CASES[name]
    x = (scale * embeddings()).astype("float32")
    value, gradient = value_and_gradient(loss_class(**kwargs), LABELS, x)
    assert np.isfinite(gradient).all()
    if name in COSINE:
        np.testing.assert_allclose(value, loss_class(**kwargs)(LABELS, embeddings()), rtol=1e-4)
    elif scale < 1:
        np.testing.assert_allclose(value, mean_of_terms(terms(name, LABELS, x)), rtol=1e-4)
    else:
        assert np.isfinite(value)


@pytest.mark.parametrize("name", ["semi_hard", "lifted", "contrastive"])
def test_small_distances_of_long_embeddings_are_accurate(name):
    loss_class, kwargs = CASES[name]
    x = (30 + 1e-3 * np.random.default_rng(0).normal(size=(8, 256))).astype("float32")
    np.testing.assert_allclose(loss_class(**kwargs)(LABELS, x), mean_of_terms(terms(name, LABELS, x)), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("semi_hard", {"reduction": "sum", "name": "metric", "dtype": "float32"}),
        ("contrastive_hard", {"reduction": None}),
        ("lifted", {"mining": "replica"}),
        ("n_pairs_one", {"reduction": "mean_with_sample_weight"}),
        ("multi_similarity_squared", {"name": "metric"}),
        ("circle", {"reduction": "sum"}),
    ],
)
def test_contract(name, kwargs):
    loss_class, arguments = CASES[name]
    check_loss(loss_class, {**arguments, **kwargs}, LABELS, embeddings())


@pytest.mark.parametrize("name", CASES)
def test_float64_stays_float64(name):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("JAX has float64 only where it is switched on")
    loss_class, kwargs = CASES[name]
    x = embeddings().astype("float64")
    value = loss_class(**kwargs, dtype="float64")(LABELS, ops.convert_to_tensor(x))
    assert keras.backend.standardize_dtype(value.dtype) == "float64"
    np.testing.assert_allclose(value, mean_of_terms(terms(name, LABELS, x)), rtol=1e-9)


def test_one_pair_per_identity_leaves_out_the_rest():
    x = embeddings()
    kept = [1, 4, 0, 2, 3, 6]  # The first two embeddings of 1, 3 and 2; the third of 1 and the only one of 9 are out.
    loss = NPairs(miner="one", reduction="sum")
    np.testing.assert_allclose(loss(LABELS, x), loss(LABELS[kept], x[kept]), rtol=1e-6)
    _, gradient = value_and_gradient(loss, LABELS, x)
    np.testing.assert_array_equal(np.abs(gradient).max(axis=1) > 0, np.isin(np.arange(8), kept))


def test_informative_pairs_alone_count():
    apart = np.array([[1.0, 0.0], [0.99, 0.01], [0.0, 1.0], [0.01, 0.99]], "float32")
    labels = np.array([0, 0, 1, 1])
    value, gradient = value_and_gradient(MultiSimilarity(), labels, apart)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)
    assert float(MultiSimilarity(epsilon=1.0)(labels, apart)) > 0
    assert float(MultiSimilarity(miner="all")(labels, apart)) > 0


@pytest.mark.parametrize(
    ("loss_class", "kwargs", "received"),
    [
        (SemiHardTriplet, {"margin": -0.1}, "margin=-0.1"),
        (SemiHardTriplet, {"margin": "hard"}, "margin='hard'"),
        (SemiHardTriplet, {"distance": "dot"}, "distance='dot'"),
        (Contrastive, {"margin": "soft"}, "margin='soft'"),
        (Contrastive, {"margin": True}, "margin=True"),
        (Contrastive, {"miner": "informative"}, "miner='informative'"),
        (Contrastive, {"distance": ["cosine"]}, r"distance=\['cosine'\]"),
        (LiftedStructure, {"margin": float("nan")}, "margin=nan"),
        (LiftedStructure, {"distance": None}, "distance=None"),
        (NPairs, {"distance": "cosin"}, "distance='cosin'"),
        (NPairs, {"miner": "hard"}, "miner='hard'"),
        (MultiSimilarity, {"alpha": 0}, "alpha=0"),
        (MultiSimilarity, {"beta": -1.0}, "beta=-1.0"),
        (MultiSimilarity, {"base": float("inf")}, "base=inf"),
        (MultiSimilarity, {"epsilon": -0.1}, "epsilon=-0.1"),
        (MultiSimilarity, {"distance": "dot"}, "distance='dot'"),
        (Circle, {"margin": -1}, "margin=-1"),
        (Circle, {"scale": 0.0}, "scale=0.0"),
        (Circle, {"miner": "informative"}, "miner='informative'"),
        (Circle, {"mining": "local"}, "mining='local'"),
    ],
)
def test_wrong_arguments_are_named(loss_class, kwargs, received):
    with pytest.raises(ValueError, match=f"Received: {received}$"):
        loss_class(**kwargs)
    if "mining" not in kwargs:
        with pytest.raises(ValueError, match=f"Received: {received}$"):
            getattr(kreid.losses, loss_class().name)(LABELS, embeddings(), **kwargs)
