"""Backbones in stages: maps of each stage, branches, training, saved weights, copies."""

import keras
import numpy as np
import pytest
from backbone_samples import randomised, through
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
    expected = through(narrow, x, 0)
    np.testing.assert_allclose(narrow(x), expected, rtol=1e-5)
    single = ops.convert_to_numpy(narrow(x.reshape(4, *x.shape[2:]))).reshape(expected.shape)
    np.testing.assert_allclose(single, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


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


def test_own_weights_file(tmp_path):
    first = randomised(build("resnet_tiny", image_size=(64, 32)))
    first.save_weights(tmp_path / "a.weights.h5")
    second = build("resnet_tiny", image_size=(64, 32), weights=tmp_path / "a.weights.h5")
    x = RNG.normal(size=(1, 64, 32, 3)).astype("float32")
    np.testing.assert_array_equal(first(x), second(x))


def test_revived_from_config():
    first = build("resnet18", image_size=(64, 32), last_stride=1, width=16, stem_stride=2)
    twin = StagedBackbone.from_config(first.get_config())
    twin.build((None, 64, 32, 3))
    twin.set_weights(first.get_weights())
    x = RNG.normal(size=(1, 64, 32, 3)).astype("float32")
    np.testing.assert_array_equal(first(x), twin(x))


def test_a_frozen_one_is_revived_frozen():
    first = build("resnet_tiny", image_size=(64, 32))
    first.trainable = False
    twin = StagedBackbone.from_config(first.get_config())
    twin.build((None, 64, 32, 3))
    assert not twin.trainable_weights
    assert len(twin.non_trainable_weights) == len(first.weights)
    x = RNG.normal(size=(1, 64, 32, 3)).astype("float32")
    np.testing.assert_array_equal(twin(x, training=True), twin(x, training=False))


def test_branches_have_statistics_in_the_stages_they_pass():
    plain = build("resnet_tiny", image_size=(64, 32))
    backbone = build("resnet_tiny", image_size=(64, 32), branches=(3, 1))
    assert [stage.branches for stage in backbone.stages] == [(0,), (0, 1), (0, 1), (0, 1, 3)]
    assert len(backbone.trainable_weights) == len(plain.trainable_weights)
    # A tiny stage has three normalisations: two in the block, one in the shortcut.
    assert len(backbone.weights) - len(plain.weights) == 2 * 3 * (1 + 1 + 2)
    maps = np.asarray(backbone.stages[0](RNG.normal(size=(4, 64, 32, 3)).astype("float32")))
    before = through(backbone, maps, 1, 0)
    backbone.stages[1](maps, training=True, branch=1)
    np.testing.assert_array_equal(through(backbone, maps, 1, 0), before)
    assert np.abs(through(backbone, maps, 1, 1) - before).max() > 1e-3
    with pytest.raises(ValueError, match=r"conv3 has .* \(0, 1\).*branch=3"):
        backbone.stages[1](maps, branch=3)


def test_weights_without_branches_serve_a_backbone_with_them(tmp_path):
    first = randomised(build("resnet_tiny", image_size=(64, 32)))
    first.save_weights(tmp_path / "a.weights.h5")
    maps = np.asarray(first.stages[0](RNG.normal(size=(2, 64, 32, 3)).astype("float32")))
    expected = through(first, maps, 1, 0)
    copied = first.with_branches((1, 2))
    assert copied.branches == (1, 2)
    assert copied.with_branches((2,)) is copied
    for twin in (build("resnet_tiny", (64, 32), weights=tmp_path / "a.weights.h5", branches=(1, 2)), copied):
        np.testing.assert_array_equal(through(twin, maps, 1, 1), expected)
    # What a file says of the branches counts.
    copied.stages[1](maps, training=True, branch=1)
    copied.save_weights(tmp_path / "b.weights.h5")
    again = build("resnet_tiny", (64, 32), weights=tmp_path / "b.weights.h5", branches=(1, 2))
    np.testing.assert_array_equal(through(again, maps, 1, 1), through(copied, maps, 1, 1))
    with pytest.raises(ValueError, match="another architecture, width or branches"):
        build("resnet_tiny", (64, 32), weights=tmp_path / "b.weights.h5", branches=(1, 2, 3))


def test_a_copy_with_branches_is_frozen_where_the_original_is():
    first = build("resnet_tiny", image_size=(64, 32))
    first.stages[0].trainable = False
    first.named_layers()["conv3_block1_1_bn"].trainable = False
    copied = first.with_branches((1,))
    names = [[weight.path for weight in one.trainable_weights] for one in (first, copied)]
    assert names[0] == names[1]
    unbuilt = StagedBackbone("resnet_tiny", (64, 32)).with_branches((1,))
    assert not unbuilt.built
