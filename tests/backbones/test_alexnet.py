"""AlexNet: its first stage in NumPy, its number of weights, refusals."""

import numpy as np
import pytest
from backbone_samples import randomised

from kreid.backbones import build

pytestmark = pytest.mark.usefixtures("eagerly")

RNG = np.random.default_rng(0)


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


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"name": "alexnet", "stem_stride": 2}, "stride of alexnet must be 4.*stem_stride=2"),
        ({"name": "alexnet", "image_size": (128, 62)}, r"at least 63 pixels.*image_size=\(128, 62\)"),
        ({"name": "alexnet", "weights": "imagenet"}, "resnet50_v1, inception_v3, .*architecture='alexnet'"),
    ],
)
def test_refusals(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        build(**arguments)
