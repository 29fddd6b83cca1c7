"""The non-local block against its paper's equations in float64, position by position."""

import numpy as np
import pytest
from map_samples import LENGTHS, MAPS, REAL, check, moved
from numpy_layers import normalised, softmax, weights

from kreid.layers import NonLocal


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("across_frames", [False, True])
def test_non_local(across_frames, training):
    layer = moved(NonLocal(across_frames=across_frames))
    theta, phi, g, w = (weights(getattr(layer, name))[0] for name in ("theta", "phi", "g", "w"))
    gathered, shares = {}, {}
    for b, t in REAL:
        others = [(b, u) for u in range(LENGTHS[b])] if across_frames else [(b, t)]
        x_j = np.concatenate([MAPS[j].reshape(-1, 6) for j in others]).astype("float64")
        rows = []
        for x_i in MAPS[b, t].reshape(-1, 6).astype("float64"):
            f = softmax(np.array([(x_i @ theta) @ (x @ phi) for x in x_j]))
            rows.append(f)
            gathered.setdefault((b, t), []).append(sum(f_j * (x @ g) for f_j, x in zip(f, x_j, strict=True)) @ w)
        shares[b, t] = np.mean(rows, axis=0)
    added = normalised(np.concatenate([gathered[key] for key in REAL]), layer.bn, training)
    added = dict(zip(REAL, added.reshape(-1, 4, 2, 6), strict=True))
    if across_frames:
        each = {b: np.mean([shares[b, t] for t in range(LENGTHS[b])], axis=0).reshape(-1, 4, 2) for b in (0, 1)}
        shares = {(b, t): each[b][t] for b, t in REAL}
    shares = {key: value.reshape(4, 2) for key, value in shares.items()}
    check(layer, {key: MAPS[key] + added[key] for key in REAL}, {"maps": shares}, training)
