"""Relation-aware global attention against equations 1 to 3 in float64, position by position."""

import numpy as np
import pytest
from map_samples import MAPS, REAL, check, moved
from numpy_layers import normalised, relu, sigmoid, weights

from kreid.layers import RelationAwareAttention


def embedded(nodes, layer, training, activation):
    """A 1x1 convolution, batch normalisation and an activation of the rows (n, C)."""
    (kernel,) = weights(layer.dense)
    return activation(normalised(np.array([node @ kernel for node in nodes]), layer.bn, training))


@pytest.mark.parametrize("training", [False, True])
def test_relation_aware_attention(training):
    layer = moved(RelationAwareAttention(reduction=2, hidden_reduction=2))

    def relation_weights(part, frames):
        """Equations 1 to 3 of all frames {(b, t): nodes (n, features)}: {(b, t): weights (n,)}."""
        flat = np.concatenate([frames[key] for key in REAL])
        theta, phi, own = (embedded(flat, getattr(part, name), training, relu) for name in ("theta", "phi", "own"))
        count = len(frames[REAL[0]])
        relations = []
        for f in range(len(REAL)):
            th, ph = theta[f * count : (f + 1) * count], phi[f * count : (f + 1) * count]
            for i in range(count):
                r = [th[i] @ ph[j] for j in range(count)] + [th[j] @ ph[i] for j in range(count)]
                relations.append(r)
        related = embedded(np.array(relations), part.related, training, relu)
        y = np.concatenate([own.mean(axis=1, keepdims=True), related], axis=1)
        a = embedded(embedded(y, part.hidden, training, relu), part.weight, training, sigmoid)[:, 0]
        return dict(zip(REAL, a.reshape(len(REAL), count), strict=True))

    nodes = {key: MAPS[key].reshape(-1, 6).astype("float64") for key in REAL}
    by_position = relation_weights(layer.positions, nodes)
    nodes = {key: nodes[key] * by_position[key][:, None] for key in REAL}
    by_channel = relation_weights(layer.channels, {key: nodes[key].T for key in REAL})
    expected = {key: (nodes[key] * by_channel[key]).reshape(4, 2, 6) for key in REAL}
    maps = {key: value.reshape(4, 2) for key, value in by_position.items()}
    check(layer, expected, {"maps": maps, "channels": by_channel}, training)
