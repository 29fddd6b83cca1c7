"""ResNets: shapes, weights, agreement with keras.applications, refusals."""

import keras
import numpy as np
import pytest
from backbone_samples import randomised, through

from kreid.backbones import build
from kreid.backbones.resnet import ARCHITECTURES

pytestmark = pytest.mark.usefixtures("eagerly")

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("last_stride", [1, 2])
def test_map_size_and_channels(name, last_stride):
    backbone = build(name, image_size=(64, 32), last_stride=last_stride)
    output = backbone(np.zeros((1, 2, 64, 32, 3), "float32"))
    size = (4, 2) if last_stride == 1 else (2, 1)
    assert output.shape == (1, 2, *size, backbone.channels)
    assert backbone.output_size == size
    assert backbone.compute_output_shape((None, None, 64, 32, 3)) == (None, None, *size, backbone.channels)


def test_a_stem_without_pooling_doubles_the_map():
    backbone = build("resnet_tiny", image_size=(64, 32), stem_stride=2)
    assert backbone(np.zeros((1, 64, 32, 3), "float32")).shape == (1, 4, 2, backbone.channels)
    assert backbone.output_size == (4, 2)


def test_sizes_that_are_no_multiple_of_the_stride():
    backbone = build("resnet_tiny", image_size=(67, 35), last_stride=2)
    assert backbone(np.zeros((1, 67, 35, 3), "float32")).shape[1:3] == backbone.output_size


def test_weights_of_the_small_ones():
    assert build("resnet_tiny", image_size=(64, 32)).count_params() < 500_000
    # He et al. count 11.7 M with the 0.5 M classifier; ours has the batch-norm statistics.
    assert build("resnet18", image_size=(64, 32)).count_params() == 11_176_512 + 9_600


@pytest.mark.parametrize("name", ["resnet_tiny", "se_resnet50"])
def test_stage_by_stage_equals_the_whole(name):
    backbone = randomised(build(name, image_size=(64, 32), last_stride=1))
    x = RNG.normal(size=(2, 3, 64, 32, 3)).astype("float32")
    y = x
    for stage in backbone.stages:
        y = stage(y)
    np.testing.assert_allclose(backbone(x), y, rtol=1e-5)
    single = backbone(x.reshape(6, 64, 32, 3))
    np.testing.assert_allclose(np.reshape(single, y.shape), y, rtol=1e-4, atol=1e-4)


def test_resnet50_v1_equals_keras_applications(tmp_path):
    theirs = randomised(keras.applications.ResNet50(include_top=False, weights=None, input_shape=(64, 64, 3)))
    theirs.save_weights(tmp_path / "top.weights.h5")
    ours = build("resnet50_v1", image_size=(64, 64), last_stride=2)
    for name, layer in ours.named_layers().items():
        layer.set_weights(theirs.get_layer(name).get_weights())
    assert ours.count_params() == theirs.count_params()
    x = RNG.normal(size=(2, 64, 64, 3)).astype("float32")
    expected = theirs(x).numpy()
    np.testing.assert_allclose(ours(x), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_every_weight_has_a_keras_applications_name():
    ours = build("resnet50_v1", image_size=(64, 64))
    assert sum(len(layer.weights) for layer in ours.named_layers().values()) == len(ours.weights)


def test_imagenet_weights_serve_all_branches(tmp_path):
    theirs = randomised(keras.applications.ResNet50(include_top=False, weights=None, input_shape=(64, 64, 3)))
    theirs.save(tmp_path / "notop.h5")
    ours = build("resnet50_v1", image_size=(64, 64), weights=tmp_path / "notop.h5", branches=(2,))
    maps = ours.stages[1](ours.stages[0](RNG.normal(size=(1, 64, 64, 3)).astype("float32")))
    np.testing.assert_array_equal(through(ours, maps, 2, 0), through(ours, maps, 2, 2))
    layer = ours.named_layers()["conv5_block3_3_bn"]
    for mine, saved in zip(layer.statistics[1], theirs.get_layer(layer.name).get_weights()[2:], strict=True):
        np.testing.assert_array_equal(mine, saved)


def multiplications(backbone):
    """Multiply-adds of all convolutions and dense layers for one frame, from shapes alone."""
    total, shape = 0, (None, *backbone.image_size, 3)
    for stage in backbone.stages:
        units = [(stage.stem, shape)] if stage.stem is not None else []
        if units:
            shape = stage.stem_output_shape(shape)
        for block in stage.blocks:
            if block.shortcut is not None:
                units.append((block.shortcut, shape))
            for unit in block.units:
                units.append((unit, shape))
                shape = unit.compute_output_shape(shape)
        for unit, into in units:
            _, height, width, filters = unit.compute_output_shape(into)
            size = unit.conv.kernel_size[0]
            total += height * width * filters * size * size * into[3]
    return total


def test_cost_of_resnet50():
    # MG-RAFA, Table 2: 32.694 GMAC for 8 frames of 256x128 with everything else of its baseline.
    assert 8 * multiplications(build("resnet50", image_size=(256, 128), last_stride=1)) / 1e9 == pytest.approx(
        32.5, abs=0.1
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"name": "resnet19"}, r"Did you mean 'resnet18'.*architecture='resnet19'"),
        ({"name": "resnet18", "last_stride": 3}, "last_stride=3"),
        ({"name": "resnet18", "stem_stride": 1}, "stem_stride=1"),
        ({"name": "resnet18", "branches": (4,)}, r"stage 1, 2 or 3.*branches=\(4,\)"),
        ({"name": "resnet18", "branches": (1, 1)}, r"each once.*branches=\(1, 1\)"),
        ({"name": "resnet18", "image_size": (16, 128)}, r"at least 32 pixels.*image_size=\(16, 128\)"),
        ({"name": "resnet18", "width": 5}, "multiple of 8.*width=5"),
        ({"name": "resnet18", "weights": "imagenet"}, "resnet50_v1.*architecture='resnet18'"),
        ({"name": "resnet18", "weights": "nowhere.h5"}, "no weights file.*'nowhere.h5'"),
    ],
)
def test_refusals(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        build(**arguments)


def test_imagenet_without_a_network_names_the_file(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(RuntimeError, match=r"put resnet50_weights_tf_dim_ordering_tf_kernels_notop\.h5.*weights=None"):
        build("resnet50_v1", image_size=(64, 64), weights="imagenet")
