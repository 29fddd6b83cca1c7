"""Squeeze and excitation in float64."""

from map_samples import MAPS, REAL, check, moved
from numpy_layers import relu, sigmoid, weights

from kreid.layers import SqueezeExcitation


def test_squeeze_excitation():
    layer = moved(SqueezeExcitation(reduction=2))
    (w1, b1), (w2, b2) = weights(layer.squeeze), weights(layer.excite)
    channels = {key: sigmoid(relu(MAPS[key].astype("float64").mean(axis=(0, 1)) @ w1 + b1) @ w2 + b2) for key in REAL}
    check(layer, {key: MAPS[key] * channels[key] for key in REAL}, {"channels": channels})
