"""kreid's losses against TensorFlow Addons' values in a file; and the bridge's losses, where TensorFlow Addons is."""

import importlib.util

import keras
import numpy as np
import pytest
from addons_cases import CASES, LABELS, embeddings, reference_values

from kreid.addons import losses as addons_losses
from kreid.addons.losses import AddonsLoss
from kreid.testing.losses import check_loss, value_and_gradient
from kreid.training import Config, build_losses


@pytest.fixture(scope="module")
def references():
    return reference_values()


@pytest.mark.parametrize("name", CASES)
def test_kreids_losses_equal_tensorflow_addons(name, references):
    _, _, own, factor = CASES[name]
    value, gradient = value_and_gradient(own, LABELS, embeddings())
    expected, expected_gradient = references[name]
    np.testing.assert_allclose(factor * value, expected, rtol=1e-5)
    np.testing.assert_allclose(factor * gradient, expected_gradient, atol=2e-5 * np.abs(expected_gradient).max())


def test_every_loss_of_the_bridge_has_a_case():
    classes = {getattr(addons_losses, name) for name in addons_losses.__all__} - {AddonsLoss}
    assert {getattr(addons_losses, name) for name, *_ in CASES.values()} == classes


@pytest.mark.parametrize("name", CASES)
def test_a_loss_is_revived_without_tensorflow_addons(name):
    class_name, settings, *_ = CASES[name]
    loss = getattr(addons_losses, class_name)(**settings, name="metric", mining="replica")
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(twin) is type(loss)
    assert twin.get_config() == loss.get_config()
    assert {key: loss.get_config()[key] for key in settings} == settings


@pytest.mark.parametrize(
    ("name", "settings", "received"),
    [
        ("TripletSemiHardLoss", {"margin": -1}, "margin=-1"),
        ("TripletSemiHardLoss", {"distance_metric": "L1"}, "distance_metric='L1'"),
        ("TripletHardLoss", {"soft": 1}, "soft=1"),
        ("LiftedStructLoss", {"margin": float("nan")}, "margin=nan"),
        ("NpairsLoss", {"reduction": "sum"}, "reduction='sum'"),
        ("ContrastiveLoss", {"mining": "all"}, "mining='all'"),
    ],
)
def test_wrong_arguments_are_named(name, settings, received):
    with pytest.raises(ValueError, match=f"Received: {received}$"):
        getattr(addons_losses, name)(**settings)


def test_weights_of_anchors_are_refused():
    with pytest.raises(ValueError, match=r"no weights of anchors.*Received: sample_weight=\[1, 1\]"):
        addons_losses.NpairsLoss()([0, 1], np.zeros((2, 3)), [1, 1])


def test_recipes_refuse_sums_of_them():
    with pytest.raises(ValueError, match=r"set loss_reduction=mean.*Received: reduction='sum'"):
        Config("baseline", metric_loss="tfa.NpairsLoss", loss_reduction="sum")


def test_recipes_know_them_by_name_and_say_what_is_missing():
    settings = {"margin": 0.5, "distance_metric": "squared-L2"}
    config = Config("baseline", metric_loss="tfa.TripletHardLoss", metric_settings=settings)
    if importlib.util.find_spec("tensorflow_addons") is None:
        with pytest.raises(ImportError, match=r"pip install 'kreid\[addons\]'|has packages for Python up to 3\.11"):
            build_losses(config)
    else:
        (loss,) = build_losses(config)["features"].losses
        assert loss.get_config() == addons_losses.TripletHardLoss(**settings).get_config()


@pytest.mark.usefixtures("with_addons")
class TestInstalled:
    """TensorFlow Addons itself, through the bridge."""

    @pytest.mark.parametrize("name", CASES)
    def test_values_and_gradients(self, name, references):
        class_name, settings, *_ = CASES[name]
        value, gradient = value_and_gradient(getattr(addons_losses, class_name)(**settings), LABELS, embeddings())
        expected, expected_gradient = references[name]
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        np.testing.assert_allclose(gradient, expected_gradient, atol=2e-5 * np.abs(expected_gradient).max())

    @pytest.mark.parametrize("name", ["semi_hard_squared", "hard_soft", "lifted", "n_pairs", "contrastive"])
    def test_contract(self, name):
        class_name, settings, *_ = CASES[name]
        check_loss(getattr(addons_losses, class_name), settings, LABELS, embeddings())

    @pytest.mark.parametrize("labels", [[1], [1, 1], [1, 2, 3]])
    @pytest.mark.parametrize("name", ["semi_hard_squared", "hard", "lifted", "n_pairs", "contrastive"])
    def test_a_batch_without_terms_gives_zero(self, name, labels):
        import tensorflow as tf

        class_name, settings, *_ = CASES[name]
        loss = getattr(addons_losses, class_name)(**settings)
        x = embeddings(len(labels))
        for one in (loss, tf.function(loss, jit_compile=len(labels) == 1)):
            value, gradient = value_and_gradient(one, np.array(labels), x)
            if name == "contrastive" and len(labels) > 1:  # Pairs need no third.
                assert value > 0
                assert np.isfinite(gradient).all()
            else:
                assert value == 0
                np.testing.assert_array_equal(gradient, 0)

    def test_n_pairs_leave_out_the_rest(self):
        x = embeddings(9)
        labels = np.array([*LABELS, 7])  # 7 has one embedding, 1 and 2 have three.
        kept = [0, 1, 2, 3, 4, 6]
        loss = addons_losses.NpairsLoss()
        np.testing.assert_allclose(loss(labels, x), loss(labels[kept], x[kept]), rtol=1e-6)
