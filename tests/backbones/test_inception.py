"""Inception v3: agreement with keras.applications, pretrained weights, refusals."""

import keras
import numpy as np
import pytest
from backbone_samples import randomised, through
from keras import ops

from kreid.backbones import build

pytestmark = pytest.mark.usefixtures("eagerly")

RNG = np.random.default_rng(0)


def test_inception_equals_keras_applications(tmp_path):
    theirs = randomised(keras.applications.InceptionV3(include_top=False, weights=None, input_shape=(91, 75, 3)))
    theirs.save(tmp_path / "notop.h5")
    ours = build("inception_v3", (91, 75), weights=tmp_path / "notop.h5", branches=(1,))
    x = RNG.normal(size=(2, 91, 75, 3)).astype("float32")
    expected = ops.convert_to_numpy(theirs(x))
    np.testing.assert_allclose(ours(x), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    first = ours.stages[0](x)
    np.testing.assert_array_equal(through(ours, first, 1, branch=1), through(ours, first, 1))
    assert len(ours.named_layers()) == 2 * 94


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"name": "inception_v3", "stem_stride": 2}, "stride of inception_v3 must be 4.*stem_stride=2"),
        ({"name": "inception_v3", "image_size": (128, 64)}, r"at least 75 pixels.*image_size=\(128, 64\)"),
        ({"name": "inception_v3", "last_stride": 3}, "last_stride=3"),
        ({"name": "inception_v3", "width": 8, "weights": "imagenet"}, "at their own width.*width=8"),
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
