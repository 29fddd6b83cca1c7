"""Networks of Keras 2 in kreid's backbones, and kreid's exports in Keras 2."""

import importlib.util

import keras
import numpy as np
import pytest

import kreid
from kreid.addons import from_tf_keras, load_tf_keras_weights, saved_model_layer
from kreid.backbones import build

pytestmark = pytest.mark.usefixtures("eagerly")

SIZE = (64, 32)
IMAGES = np.random.default_rng(0).normal(size=(2, *SIZE, 3)).astype("float32")
ENDS = ["block_2_add", "block_5_add", "block_12_add", "out_relu"]


@pytest.fixture(scope="module")
def network(tf_keras):
    """MobileNetV2 of Keras 2 with random weights, statistics too."""
    model = tf_keras.applications.MobileNetV2((*SIZE, 3), alpha=0.5, include_top=False, weights=None)
    draw = np.random.default_rng(1)
    model.set_weights([draw.uniform(0.5, 1.5, weight.shape) * (weight + 0.1) for weight in model.get_weights()])
    return model


def same(backbone, network):
    expected = network.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(backbone(IMAGES), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_a_network_in_memory(network):
    backbone = build("mobilenet_v2_keras", SIZE, width=16)
    conversion = load_tf_keras_weights(backbone, network, licence="Apache-2.0")
    assert (conversion.layout, conversion.placed, conversion.left_out) == ("keras.applications", 260, ())
    assert conversion.matched["Conv1/kernel"].endswith("features_0_conv/kernel")
    assert backbone.passport["weights"] == f"tf_keras:{network.name}"
    assert backbone.passport["licence"] == "Apache-2.0"
    same(backbone, network)


def test_files_of_keras_2(network, tf_keras, tmp_path):
    network.save(tmp_path / "model.h5")
    network.save_weights(tmp_path / "weights.h5")
    head = [tf_keras.layers.GlobalAveragePooling2D(), tf_keras.layers.Dense(3, name="fc")]
    inside = tf_keras.Sequential([network, *head])
    inside.save(tmp_path / "inside.h5")
    for source in (tmp_path / "model.h5", tmp_path / "weights.h5", tmp_path / "inside.h5", inside):
        backbone = build("mobilenet_v2_keras", SIZE, width=16)
        conversion = load_tf_keras_weights(backbone, source)
        assert conversion.placed == 260
        assert conversion.left_out == (("fc/bias", "fc/kernel") if "inside" in str(source) or source is inside else ())
    same(backbone, network)


@pytest.mark.parametrize("last_stride", [1, 2])
def test_a_network_as_a_backbone(network, last_stride):
    backbone = from_tf_keras(network, ENDS, last_stride=last_stride)
    assert (backbone.channels, backbone.preprocessing) == (1280, "tf")
    if last_stride == 2:
        same(backbone, network)
    model = kreid.models.Baseline(backbone, num_identities=3)
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    assert twin.backbone.passport["layout"] == "tf_keras"


def test_what_is_no_network_of_keras_2(network, tf_keras):
    backbone = build("resnet_tiny", SIZE)
    with pytest.raises(ValueError, match=r"model of Keras 3; use kreid\.backbones\.from_keras.*Received: weights="):
        load_tf_keras_weights(backbone, backbone)
    with pytest.raises(ValueError, match=r"is a tf_keras\.Model\. Received: model=3"):
        from_tf_keras(3, ENDS)
    with pytest.raises(ValueError, match="different networks"):
        load_tf_keras_weights(build("resnet50_v1", SIZE, width=8), network)

    class Odd(tf_keras.layers.Layer):
        pass

    inputs = tf_keras.Input((*SIZE, 3))
    with pytest.raises(ValueError, match=r"Keras 3 cannot rebuild .*Received: model='odd'"):
        from_tf_keras(tf_keras.Model(inputs, Odd()(inputs), name="odd"), ENDS)


def test_a_kreid_model_in_keras_2(tf_keras, in_graphs, tmp_path):
    model = kreid.models.Baseline(build("resnet_tiny", (32, 32), width=8), num_identities=3)
    kreid.serving.export_model(model, tmp_path / "export", version=1, warmup=False)
    frames = np.random.default_rng(0).integers(0, 255, (2, 3, 32, 32, 3)).astype("uint8")
    lengths = np.array([3, 2], "int32")
    inputs = {"frames": tf_keras.Input((None, 32, 32, 3), dtype="uint8"), "lengths": tf_keras.Input((), dtype="int32")}
    layer = saved_model_layer(tmp_path / "export")
    network = tf_keras.Model(inputs, tf_keras.layers.Dense(2, name="head")(layer(inputs)["embedding"]))
    found = layer({"frames": frames, "lengths": lengths})
    np.testing.assert_allclose(found["embedding"], model.embed(frames, lengths), rtol=1e-4, atol=1e-5)
    assert list(np.asarray(found["valid_frames"])) == [3, 2]
    assert [weight.name for weight in network.trainable_weights] == ["head/kernel:0", "head/bias:0"]
    network.compile("sgd", "mse")
    network.fit({"frames": frames, "lengths": lengths}, np.zeros((2, 2)), verbose=0)
    network.save(tmp_path / "network.keras")
    twin = tf_keras.models.load_model(tmp_path / "network.keras")
    inputs = {"frames": frames, "lengths": lengths}
    np.testing.assert_array_equal(twin.predict(inputs, verbose=0), network.predict(inputs, verbose=0))


def test_an_export_that_is_none(tf_keras, tmp_path):
    with pytest.raises(ValueError, match=r"no export in this folder; make one with kreid export\. Received: path="):
        saved_model_layer(tmp_path)


def test_without_keras_2(tmp_path):
    if importlib.util.find_spec("tf_keras") is not None:
        pytest.skip("tf-keras is installed")
    for call in (lambda: from_tf_keras(3, ENDS), lambda: saved_model_layer(tmp_path)):
        with pytest.raises(ImportError, match=r"pip install 'kreid\[addons\]'"):
            call()
