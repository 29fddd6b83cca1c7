import numpy as np
import pytest
from loss_oracles import numeric_gradient, smoothed_values

from kreid.losses import SmoothedIdentity, smoothed_identity
from kreid.testing.losses import check_loss, value_and_gradient

LABELS = np.array([0, 3, 2, 2, 1], "int32")
LOGITS = (3 * np.random.default_rng(0).normal(size=(5, 4))).astype("float32")


@pytest.mark.parametrize("smoothing", [0, 0.1, 0.5])
def test_values_and_gradient_equal_loops(smoothing):
    np.testing.assert_allclose(
        smoothed_identity(LABELS, LOGITS, smoothing), smoothed_values(LABELS, LOGITS, smoothing), rtol=1e-5
    )
    _, gradient = value_and_gradient(SmoothedIdentity(smoothing, reduction="sum"), LABELS, LOGITS)
    expected = numeric_gradient(lambda logits: smoothed_values(LABELS, logits, smoothing).sum(), LOGITS)
    np.testing.assert_allclose(gradient, expected, atol=1e-5)


def test_reductions():
    values = smoothed_values(LABELS, LOGITS, 0.1)
    weights = np.array([1.0, 0.0, 2.0, 1.0, 0.5])
    np.testing.assert_allclose(SmoothedIdentity()(LABELS, LOGITS), values.mean(), rtol=1e-5)
    np.testing.assert_allclose(SmoothedIdentity(reduction="sum")(LABELS, LOGITS), values.sum(), rtol=1e-5)
    np.testing.assert_allclose(SmoothedIdentity()(LABELS, LOGITS, weights), (values * weights).mean(), rtol=1e-5)


def test_large_logits_stay_finite():
    logits = np.array([[3e4, -3e4, 0.0]], "float32")
    value, gradient = value_and_gradient(SmoothedIdentity(), np.array([1]), logits)
    np.testing.assert_allclose(value, 6e4 * (0.9 + 0.1 / 3) + 3e4 * 0.1 / 3, rtol=1e-6)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("label", [-1, 4])
def test_a_label_the_classifier_lacks_gives_nan(label):
    values = np.asarray(smoothed_identity([0, label], LOGITS[:2]))
    np.testing.assert_array_equal(np.isnan(values), [False, True])


@pytest.mark.parametrize("batch", ["0", "2"])
def test_agrees_with_other_implementations(golden, batch):
    reference = golden("losses.npz")
    value, gradient = value_and_gradient(SmoothedIdentity(), reference["y" + batch], reference["logits" + batch])
    np.testing.assert_allclose(value, reference["vpr_xent_ls" + batch], atol=1e-6)
    np.testing.assert_allclose(gradient, reference["vpr_xent_ls_grad" + batch], atol=1e-6)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"smoothing": 0.3, "reduction": "sum", "name": "identity", "dtype": "float32"},
        {"smoothing": 0, "reduction": None},
    ],
)
def test_contract(kwargs):
    check_loss(SmoothedIdentity, kwargs, LABELS, LOGITS)


@pytest.mark.parametrize("smoothing", [-0.1, 1, "a", None, True])
def test_wrong_smoothing_is_named(smoothing):
    with pytest.raises(ValueError, match=f"Received: smoothing={smoothing!r}"):
        SmoothedIdentity(smoothing)
