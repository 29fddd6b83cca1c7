import keras
import numpy as np
import pytest
from keras import ops
from loss_oracles import numeric_gradient, triplet_values

from kreid.losses import BatchHardTriplet, batch_hard_triplet
from kreid.testing.losses import check_loss, value_and_gradient

LABELS = np.array([3, 1, 3, 2, 1, 1, 2, 9], "int32")  # 9 has no positive
COUNTED = LABELS != 9


def embeddings(seed=0, features=5, batch=8):
    return np.random.default_rng(seed).normal(size=(batch, features)).astype("float32")


@pytest.mark.parametrize("distance", ["euclidean", "squared_euclidean"])
@pytest.mark.parametrize("margin", [0, 0.3, 2, "soft"])
def test_values_equal_loops(margin, distance):
    x = embeddings()
    expected = triplet_values(LABELS, x, margin, distance == "squared_euclidean")
    np.testing.assert_array_equal(np.isnan(expected), ~COUNTED)
    values = batch_hard_triplet(LABELS, x, margin, distance)
    np.testing.assert_allclose(values, np.nan_to_num(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("distance", ["euclidean", "squared_euclidean"])
@pytest.mark.parametrize("margin", [0.3, "soft"])
def test_gradient_equals_differences(margin, distance):
    x = embeddings()

    def mean(inputs):
        return np.nanmean(triplet_values(LABELS, inputs, margin, distance == "squared_euclidean"))

    _, gradient = value_and_gradient(BatchHardTriplet(margin, distance), LABELS, x)
    np.testing.assert_allclose(gradient, numeric_gradient(mean, x), atol=2e-5)


def test_cosine_distances_are_half_the_squares_of_normalised_embeddings():
    x = embeddings()
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    expected = triplet_values(LABELS, unit, 0.6, squared=True) / 2
    values = batch_hard_triplet(LABELS, x, 0.3, "cosine")
    np.testing.assert_allclose(values, np.nan_to_num(expected), rtol=1e-5, atol=1e-6)


def test_every_reduction_leaves_out_the_same_anchors():
    x = embeddings()
    values = triplet_values(LABELS, x, 0.3)
    weights = np.arange(1.0, len(LABELS) + 1)
    for shape in ((-1,), (-1, 1)):
        expected = {
            "sum": (np.nansum(values), np.nansum(values * weights)),
            "mean": (np.nanmean(values), np.nanmean(values * weights)),
            "sum_over_batch_size": (np.nanmean(values), np.nanmean(values * weights)),
            "mean_with_sample_weight": (np.nanmean(values), np.nansum(values * weights) / weights[COUNTED].sum()),
            None: (np.nan_to_num(values), np.nan_to_num(values * weights)),
        }
        for reduction, (plain, weighted) in expected.items():
            loss = BatchHardTriplet(reduction=reduction)
            np.testing.assert_allclose(loss(LABELS, x), plain, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(loss(LABELS, x, weights.reshape(shape)), weighted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reduction", ["sum", "sum_over_batch_size", "mean_with_sample_weight"])
@pytest.mark.parametrize("margin", [0.3, "soft"])
@pytest.mark.parametrize("labels", [[1, 1, 1], [1, 2, 3]])
def test_a_batch_without_triplets_gives_zero(labels, margin, reduction):
    value, gradient = value_and_gradient(
        BatchHardTriplet(margin, reduction=reduction), np.array(labels), embeddings(batch=3)
    )
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("distance", ["euclidean", "squared_euclidean"])
@pytest.mark.parametrize("norm", [0.0, 30.0])
def test_equal_embeddings_are_worth_the_margin(norm, distance):
    x = np.full((8, 64), norm / 8, "float32")
    value, gradient = value_and_gradient(BatchHardTriplet(0.3, distance), np.repeat([0, 1], 4), x)
    assert value == np.float32(0.3)
    np.testing.assert_array_equal(gradient, 0)


def test_best_and_worst_batches():
    apart = np.array([[0.0], [0.0], [5.0], [5.0]], "float32")
    assert float(BatchHardTriplet(0.3)([0, 0, 1, 1], apart)) == 0.0
    assert float(BatchHardTriplet(0.5)([0, 1, 0, 1], apart)) == 5.5  # positives 5 apart, negatives 0


def test_large_labels_are_told_apart():
    labels = np.array([16_777_216, 16_777_216, 16_777_217, 16_777_217])
    x = embeddings(batch=4)
    assert float(BatchHardTriplet()(labels, x)) == float(BatchHardTriplet()([0, 0, 1, 1], x)) != 0.0


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_embeddings_of_any_scale(scale):
    x = (scale * embeddings()).astype("float32")
    expected = np.nan_to_num(triplet_values(LABELS, x, 0.0))
    np.testing.assert_allclose(batch_hard_triplet(LABELS, x, margin=0), expected, rtol=1e-4, atol=1e-6 * scale)


def test_small_distances_of_long_embeddings_are_accurate():
    x = 30 + 1e-3 * np.random.default_rng(0).normal(size=(8, 256))
    x = x.astype("float32")
    expected = triplet_values(LABELS, x, 0.3)
    np.testing.assert_allclose(batch_hard_triplet(LABELS, x), np.nan_to_num(expected), atol=1e-6)


@pytest.mark.parametrize("batch", ["0", "2"])
def test_agrees_with_other_implementations(golden, batch):
    reference = golden("losses.npz")
    value, gradient = value_and_gradient(BatchHardTriplet(), reference["y" + batch], reference["x" + batch])
    np.testing.assert_allclose(value, reference["vpr_triplet" + batch], atol=1e-6)
    np.testing.assert_allclose(value, reference["float64_triplet" + batch], atol=1e-6)
    np.testing.assert_allclose(gradient, reference["vpr_triplet_grad" + batch], atol=1e-6)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"margin": 1, "distance": "squared_euclidean", "reduction": "sum", "name": "metric"},
        {"margin": "soft", "reduction": "mean_with_sample_weight", "dtype": "float32"},
        {"reduction": None},
    ],
)
def test_contract(kwargs):
    check_loss(BatchHardTriplet, kwargs, LABELS, embeddings())


def test_float64_stays_float64():
    x = embeddings().astype("float64")
    value = BatchHardTriplet(dtype="float64")(LABELS, ops.convert_to_tensor(x))
    if keras.backend.backend() == "tensorflow":
        assert keras.backend.standardize_dtype(value.dtype) == "float64"
        np.testing.assert_allclose(value, np.nanmean(triplet_values(LABELS, x, 0.3)), rtol=1e-12)


@pytest.mark.parametrize("margin", [-0.1, "hard", True, None, float("nan"), float("inf")])
def test_wrong_margin_is_named(margin):
    with pytest.raises(ValueError, match=f"Received: margin={margin!r}"):
        BatchHardTriplet(margin)


def test_wrong_distance_is_named():
    with pytest.raises(ValueError, match=r"or 'cosine'\. Received: distance='dot'"):
        BatchHardTriplet(distance="dot")


def test_one_hot_labels_are_refused():
    x = np.zeros((2, 3), "float32")
    with pytest.raises(ValueError, match=r"one identity number per tracklet.*y_true of shape \(2, 4\)"):
        BatchHardTriplet()(np.eye(2, 4), x)
