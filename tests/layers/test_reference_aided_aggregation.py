"""MG-RAFA's aggregation against equations 1 to 6, written from the paper in float64, node by node."""

import keras
import numpy as np
import pytest
from keras import ops
from numpy_layers import block_mean

from kreid.layers import ReferenceAidedAggregation

RNG = np.random.default_rng(43)
MAPS = np.maximum(RNG.normal(0.3, 1.0, (3, 4, 8, 4, 16)), 0).astype("float32")
LENGTHS = np.array([4, 1, 3])
MASK = np.arange(4) < LENGTHS[:, None]
NOISY = np.where(MASK[:, :, None, None, None], MAPS, np.nan).astype("float32")

# Rows of Tables 2 and 3, and more granularities than one with other references.
ROWS = {
    "MG-AFA": {"num_granularities": 2, "references": "none"},
    "SG": {"num_granularities": 1},
    "SG (S=4)": {"num_granularities": 1, "num_splits": 4},
    "MG (N=2)": {"num_granularities": 2},
    "S-P (8x1)": {"num_granularities": 1, "references": "grid", "reference_grid": [8, 1, 4]},
    "S-P (4x2)": {"num_granularities": 1, "references": "grid", "reference_grid": [4, 2, 4]},
    "T-P (2)": {"num_granularities": 1, "references": "grid", "reference_grid": [8, 4, 2]},
    "ST": {"num_granularities": 1, "references": "grid", "reference_grid": [8, 4, 4]},
    "grid as S-RFN": {"num_granularities": 1, "references": "grid", "reference_grid": [8, 4, 1]},
    "MG with a grid": {"num_granularities": 2, "references": "grid", "reference_grid": [4, 2, 2]},
}


def make(row, **kwargs):
    return ReferenceAidedAggregation(**{"num_frames": 4, "reduction": 2, **ROWS[row], **kwargs})


def moved(layer):
    layer(MAPS)
    for weight in layer.weights:
        value = ops.convert_to_numpy(weight)
        if "variance" in weight.path or "gamma" in weight.path:
            weight.assign(RNG.uniform(0.7, 1.4, value.shape))
        elif "kernel" not in weight.path:
            weight.assign(value + RNG.normal(scale=0.3, size=value.shape))
    return layer


@pytest.mark.parametrize("row", ["MG-AFA", "SG"])
def test_the_scores_scale_sets_how_far_from_the_mean_training_starts(row):
    spread = {}
    for scale in (0.1, 1.0):
        keras.utils.set_random_seed(3)
        _, attention = make(row, score_scale=scale)(MAPS, return_attention=True, training=True)
        shares = [ops.convert_to_numpy(weights) * np.prod(weights.shape[1:]) for weights in attention.values()]
        spread[scale] = (min(map(np.min, shares)), max(map(np.max, shares)))
    assert 0.85 < spread[0.1][0] < 1 < spread[0.1][1] < 1.25
    assert spread[1.0][0] < 0.7
    assert spread[1.0][1] > 1.5


class Embedding:
    """ReLU of batch normalisation of W x, for nodes (n, C); in training by the statistics of those it is given."""

    def __init__(self, layer, training):
        self.kernel, self.gamma, self.beta, self.mean, self.variance = (
            w.astype("float64") for w in (*layer.dense.get_weights(), *layer.bn.get_weights())
        )
        self.training = training

    def __call__(self, nodes):
        out = np.array([node @ self.kernel for node in nodes])
        mean, variance = (out.mean(axis=0), out.var(axis=0)) if self.training else (self.mean, self.variance)
        return np.maximum((out - mean) / np.sqrt(variance + 1e-5) * self.gamma + self.beta, 0)


def reference_nodes(frames, grid, num_frames):
    """S-RFNs of one tracklet (T, h, w, C): (D, C), and which of them there are."""
    height, width = frames.shape[1:3]
    if grid is None:
        return frames.mean(axis=0).reshape(-1, frames.shape[-1]), [True] * (height * width)
    nodes, present = [], []
    for cell in range(grid[2]):
        members = [t for t in range(len(frames)) if t * grid[2] // num_frames == cell]
        mean = frames[members].mean(axis=0) if members else np.zeros(frames.shape[1:])
        small = block_mean(mean, height // grid[0], width // grid[1]).reshape(-1, frames.shape[-1])
        nodes.extend(small)
        present.extend([bool(members)] * len(small))
    return np.array(nodes), present


def aggregate(group, tracklets, references, grid, training):
    """Equations 1 to 4 for tracklets [(T_b, h, w, C)]: vectors and weights (T_b, h, w, C)."""
    names = ["phi", "theta"] + (["mu", "nu", "psi"] if references != "none" else [])
    e = {name: Embedding(getattr(group, name), training) for name in names}
    channels = tracklets[0].shape[-1]
    nodes = [frames.reshape(-1, channels) for frames in tracklets]
    owner = np.concatenate([[b] * len(own) for b, own in enumerate(nodes)])
    every = np.concatenate(nodes)
    seen = e["phi"](every)
    if references != "none":
        found = [reference_nodes(frames, grid, 4) for frames in tracklets]
        there = np.concatenate([present for _, present in found])
        embedded = np.zeros((len(there), e["nu"].kernel.shape[1]))
        embedded[there] = e["nu"](np.concatenate([y for y, _ in found])[there])
        nu = np.split(embedded, len(tracklets))
        mu = e["mu"](every)
        # Equations 1 and 2, raster order; a reference that is not there has no relation.
        r = np.array([[m @ y for y in nu[b]] for m, b in zip(mu, owner, strict=True)])
        seen = np.concatenate([seen, e["psi"](r)], axis=1)
    a = e["theta"](seen)
    vectors, weights = [], []
    for b, frames in enumerate(tracklets):
        scores = np.exp(a[owner == b])
        share = scores / scores.sum(axis=0)
        vectors.append((share * nodes[b]).sum(axis=0))
        weights.append(share.reshape(frames.shape))
    return np.array(vectors), weights


def expected_output(layer, training):
    count = layer.num_groups
    vectors, maps = [], []
    for m in range(count):
        scale = 2**m if layer.num_granularities > 1 else 1
        part = MAPS[..., m * 16 // count : (m + 1) * 16 // count].astype("float64")
        tracklets = [
            np.array([block_mean(frame, scale, scale) for frame in part[b, :length]])
            for b, length in enumerate(LENGTHS)
        ]
        v, weights = aggregate(layer.groups[m], tracklets, layer.references, layer.reference_grid, training)
        vectors.append(v)
        maps.append([share.mean(axis=-1) for share in weights])
    return np.concatenate(vectors, axis=1), maps


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("row", ROWS)
def test_equations(row, training):
    layer = moved(make(row))
    vectors, maps = expected_output(layer, training)
    found, attention = layer(NOISY, mask=MASK, training=training, return_attention=True)
    np.testing.assert_allclose(found, vectors, rtol=1e-3, atol=1e-4)
    assert list(attention) == [f"maps_{m}" for m in range(1, layer.num_groups + 1)]
    for group, shown in zip(maps, attention.values(), strict=True):
        shown = ops.convert_to_numpy(shown)
        np.testing.assert_allclose(shown.sum(axis=(1, 2, 3)), 1.0, rtol=1e-5)
        for b, length in enumerate(LENGTHS):
            np.testing.assert_allclose(shown[b, :length], group[b], rtol=1e-3, atol=1e-6)
            assert not shown[b, length:].any()


@pytest.mark.parametrize("row", ["MG (N=2)", "MG with a grid"])
def test_padding_reaches_no_moving_statistic(row):
    padded, alone = moved(make(row)), make(row)
    alone(MAPS)
    alone.set_weights(padded.get_weights())
    padded(NOISY[:1].repeat(2, axis=0), mask=np.array([[True] * 2 + [False] * 2, [False] * 4]), training=True)
    alone(MAPS[:1, :2], training=True)
    for one, other in zip(padded.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_frame_order_and_length_are_free():
    layer = moved(make("MG (N=2)"))
    shuffled = layer(MAPS[:, [2, 0, 3, 1]])
    np.testing.assert_allclose(layer(MAPS), shuffled, rtol=1e-4, atol=1e-5)
    # As many nodes again of the same content share the same weight.
    np.testing.assert_allclose(layer(np.concatenate([MAPS] * 3, axis=1)), shuffled, rtol=1e-4, atol=1e-5)


def test_grid_takes_shorter_tracklets():
    layer = moved(make("ST"))
    mask = np.array([[True, True, False, False]])
    np.testing.assert_allclose(layer(MAPS[:1, :2]), layer(MAPS[:1], mask=mask), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"made for 4 frames.*\(1, 5, 8, 4, 16\)"):
        layer(np.zeros((1, 5, 8, 4, 16), "float32"))


@pytest.mark.parametrize(
    ("arguments", "shape", "complaint"),
    [
        ({"num_granularities": 4}, (1, 2, 8, 4, 16), r"8x4 can be halved 2 times: take at most 3.*num_groups=4"),
        ({"num_granularities": 2}, (1, 2, 7, 4, 16), r"at most 1 granularities.*num_groups=2"),
        ({"num_granularities": 3}, (1, 2, 8, 4, 16), r"divides the 16 channels.*num_groups=3"),
        ({}, (1, 2, None, 4, 16), r"known h, w and C"),
        (
            {"num_granularities": 2, "references": "grid", "reference_grid": [8, 4, 8]},
            (1, 2, 8, 4, 16),
            r"must divide the map, 4x2 at this granularity.*\[8, 4, 8\]",
        ),
    ],
)
def test_refusals_at_build(arguments, shape, complaint):
    with pytest.raises(ValueError, match=complaint):
        ReferenceAidedAggregation(**arguments).build(shape)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"num_granularities": 0}, "num_granularities=0"),
        ({"num_splits": 2.0}, r"num_splits=2\.0"),
        ({"num_granularities": 2, "num_splits": 4}, "leave out num_splits.*num_splits=4"),
        ({"references": "mean"}, "temporal_mean, none, grid.*references='mean'"),
        ({"references": "grid"}, "needs a reference_grid.*reference_grid=None"),
        ({"reference_grid": [8, 4, 8]}, "other references take none.*references='temporal_mean'"),
        ({"references": "grid", "reference_grid": [8, 4, 3]}, r"divides num_frames.*num_frames=8"),
        ({"references": "grid", "reference_grid": [8, 4]}, r"reference_grid=\[8, 4\]"),
        ({"references": "grid", "reference_grid": 8}, "reference_grid=8"),
        ({"reduction": 0}, "reduction=0"),
        ({"num_frames": 0}, "num_frames=0"),
    ],
)
def test_refusals(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        ReferenceAidedAggregation(**arguments)


def test_the_widths_of_the_paper():
    layer = ReferenceAidedAggregation()
    layer(keras.Input((None, 16, 8, 2048)))
    assert [group.psi.units for group in layer.groups] == [16, 4, 1, 1]
    assert {group.phi.units for group in layer.groups} == {64}
    assert {group.theta.units for group in layer.groups} == {512}
