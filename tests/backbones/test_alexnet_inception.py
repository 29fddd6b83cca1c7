"""AlexNet and Inception v3: shapes, strides, stages, branches, agreement with keras.applications."""

import keras
import numpy as np
import pytest
from keras import ops

from kreid.backbones import StagedBackbone, build

pytestmark = pytest.mark.usefixtures("eagerly")

RNG = np.random.default_rng(0)
NARROW = {"inception_v3": 8, "alexnet": 8}
SIZES = {"inception_v3": (107, 75), "alexnet": (128, 64)}


@pytest.fixture(scope="module", params=NARROW)
def narrow(request):
    """A narrow backbone of each kind, with statistics for maps that join after stage 1."""
    return build(request.param, SIZES[request.param], width=8, branches=(1,))


def randomised(model):
    for weight in model.weights:
        if "gamma" not in weight.path:
            low, high = (0.5, 1.2) if "variance" in weight.path else (-0.1, 0.1)
            weight.assign(RNG.uniform(low, high, weight.shape))
    return model


def maps_of(backbone, first, x, branch=0):
    for stage in backbone.stages[first:]:
        x = stage(x, branch=branch)
    return ops.convert_to_numpy(x)


# By hand, from the papers' tables. Inception: 107 -> 53 -> 51 -> 25 -> 23 -> 11 -> 5 -> 2 and 75 -> 37 -> 35 -> 17 ->
# 15 -> 7 -> 3 -> 1. AlexNet: 128 -> 31 -> 15 -> 7 -> 3 and 64 -> 15 -> 7 -> 3 -> 1.
@pytest.mark.parametrize(
    ("name", "stages", "last"),
    [
        ("inception_v3", [(25, 17, 16), (11, 7, 72), (5, 3, 192), (2, 1, 512)], (5, 3, 512)),
        ("alexnet", [(15, 7, 8), (7, 3, 24), (7, 3, 32), (3, 1, 32)], (7, 3, 32)),
    ],
)
def test_stages_and_strides(name, stages, last):
    backbone = build(name, SIZES[name], width=8)
    x = np.zeros((1, 2, *SIZES[name], 3), "float32")
    assert backbone.compute_output_shape((None, None, *SIZES[name], 3)) == (None, None, *stages[-1])
    assert (*backbone.output_size, backbone.channels) == stages[-1]
    for stage, expected in zip(backbone.stages, stages, strict=True):
        x = stage(x)
        assert x.shape == (1, 2, *expected)
    dense = build(name, SIZES[name], last_stride=1, width=8)
    assert dense(np.zeros((1, *SIZES[name], 3), "float32")).shape[1:] == last == (*dense.output_size, dense.channels)


def test_stage_by_stage_equals_the_whole(narrow):
    x = RNG.normal(size=(2, 2, *narrow.image_size, 3)).astype("float32")
    expected = maps_of(narrow, 0, x)
    np.testing.assert_allclose(narrow(x), expected, rtol=1e-5)
    single = ops.convert_to_numpy(narrow(x.reshape(4, *x.shape[2:]))).reshape(expected.shape)
    np.testing.assert_allclose(single, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_alexnet_in_numpy():
    """The first stage against sums over the kernel: 11x11, stride 4, two zeros around; maxima of 3x3, stride 2."""
    backbone = randomised(build("alexnet", (64, 64), width=8))
    kernel, bias = (w.astype("float64") for w in backbone.named_layers()["conv2d_1"].get_weights())
    x = RNG.normal(size=(64, 64, 3)).astype("float32")
    padded = np.pad(x.astype("float64"), [(2, 2), (2, 2), (0, 0)])
    rows = [
        [np.tensordot(padded[4 * i : 4 * i + 11, 4 * j : 4 * j + 11], kernel, 3) for j in range(15)] for i in range(15)
    ]
    maps = np.maximum(np.array(rows) + bias, 0)
    expected = [[maps[2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max(axis=(0, 1)) for j in range(7)] for i in range(7)]
    np.testing.assert_allclose(backbone.stages[0](x[None])[0], expected, rtol=1e-4, atol=1e-4)


def test_weights_of_alexnet():
    # As many as the convolutions of torchvision's: 61.1 M less the three Dense layers.
    assert build("alexnet", (128, 64)).count_params() == 61_100_840 - 58_631_144


def test_inception_equals_keras_applications(tmp_path):
    theirs = randomised(keras.applications.InceptionV3(include_top=False, weights=None, input_shape=(91, 75, 3)))
    theirs.save(tmp_path / "notop.h5")
    ours = build("inception_v3", (91, 75), weights=tmp_path / "notop.h5", branches=(1,))
    x = RNG.normal(size=(2, 91, 75, 3)).astype("float32")
    expected = ops.convert_to_numpy(theirs(x))
    np.testing.assert_allclose(ours(x), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    first = ours.stages[0](x)
    np.testing.assert_array_equal(maps_of(ours, 1, first, branch=1), maps_of(ours, 1, first))
    assert len(ours.named_layers()) == 2 * 94


def test_training_moves_every_weight_and_the_frames_statistics(narrow):
    moved = {variable.path: ops.convert_to_numpy(variable) for variable in narrow.weights}
    inputs = keras.Input((*narrow.image_size, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(narrow(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1)(pooled))
    model.compile(keras.optimizers.Adam(1e-3), "mse", run_eagerly=True)
    model.train_on_batch(RNG.normal(size=(2, *narrow.image_size, 3)).astype("float32"), np.ones((2, 1)))
    for variable in narrow.weights:
        still = np.array_equal(moved[variable.path], ops.convert_to_numpy(variable))
        assert still == variable.path.endswith(("moving_mean_1", "moving_variance_1")), variable.path


def test_saved_weights_revive_another_one(narrow, tmp_path):
    narrow.save_weights(tmp_path / "a.weights.h5")
    twin = StagedBackbone.from_config(narrow.get_config())
    twin.build((None, *narrow.image_size, 3))
    twin.load_pretrained(tmp_path / "a.weights.h5")
    x = RNG.normal(size=(1, *narrow.image_size, 3)).astype("float32")
    np.testing.assert_array_equal(twin(x), narrow(x))
    half = build(narrow.architecture, narrow.image_size, width=8, dtype="mixed_bfloat16")
    assert half(x).dtype == "bfloat16"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"name": "inception_v3", "stem_stride": 2}, "stride of inception_v3 must be 4.*stem_stride=2"),
        ({"name": "alexnet", "stem_stride": 2}, "stride of alexnet must be 4.*stem_stride=2"),
        ({"name": "inception_v3", "image_size": (128, 64)}, r"at least 75 pixels.*image_size=\(128, 64\)"),
        ({"name": "alexnet", "image_size": (128, 62)}, r"at least 63 pixels.*image_size=\(128, 62\)"),
        ({"name": "inception_v3", "last_stride": 3}, "last_stride=3"),
        ({"name": "inception_v3", "width": 8, "weights": "imagenet"}, "at their own width.*width=8"),
        ({"name": "alexnet", "weights": "imagenet"}, "resnet50_v1 and inception_v3.*architecture='alexnet'"),
    ],
)
def test_refusals(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        build(**arguments)


def test_imagenet_without_a_network_names_the_file(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(RuntimeError, match=r"put inception_v3_weights_tf_dim_ordering_tf_kernels_notop\.h5"):
        build("inception_v3", (75, 75), weights="imagenet")
