"""The attentions that MG-RAFA is compared with, against their papers' equations in float64, position by position."""

import numpy as np
import pytest
from keras import ops

from kreid.layers import ConvolutionalBlockAttention, NonLocal, RelationAwareAttention, SqueezeExcitation

RNG = np.random.default_rng(71)
MAPS = np.maximum(RNG.normal(0.3, 1.0, (2, 3, 4, 2, 6)), 0).astype("float32")
LENGTHS = np.array([3, 2])
MASK = np.arange(3) < LENGTHS[:, None]
NOISY = np.where(MASK[:, :, None, None, None], MAPS, np.nan).astype("float32")
REAL = [(b, t) for b, length in enumerate(LENGTHS) for t in range(length)]


def moved(layer):
    """Moves the weights from where some start: gammas of 0 or 1, zeros."""
    layer(MAPS)
    for weight in layer.weights:
        value = ops.convert_to_numpy(weight)
        positive = "variance" in weight.path
        noise = RNG.uniform(0.3, 1.0, value.shape) if positive else RNG.normal(scale=0.5, size=value.shape)
        weight.assign(value + noise)
    return layer


def weights(layer):
    return [w.astype("float64") for w in layer.get_weights()]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    powers = np.exp(x - x.max())
    return powers / powers.sum()


def normalised(nodes, bn, training):
    """Batch normalisation of the rows (n, C), in training by their own statistics."""
    gamma, beta, mean, variance = weights(bn)
    if training:
        mean, variance = nodes.mean(axis=0), nodes.var(axis=0)
    return (nodes - mean) / np.sqrt(variance + 1e-5) * gamma + beta


def embedded(nodes, layer, training, activation):
    """A 1x1 convolution, batch normalisation and an activation of the rows (n, C)."""
    (kernel,) = weights(layer.dense)
    return activation(normalised(np.array([node @ kernel for node in nodes]), layer.bn, training))


def relu(x):
    return np.maximum(x, 0)


def check(layer, expected, attention, training=False):
    """Compares the layer on padded maps with the frames, and attentions by frame, that the equations give."""
    options = {"training": training} if training else {}
    found, shown = layer(NOISY, mask=MASK, return_attention=True, **options)
    found = ops.convert_to_numpy(found)
    for (b, t), frame in expected.items():
        np.testing.assert_allclose(found[b, t], frame, rtol=1e-4, atol=1e-5)
        for name, values in attention.items():
            np.testing.assert_allclose(ops.convert_to_numpy(shown[name])[b, t], values[b, t], rtol=1e-4, atol=1e-6)
    assert shown.keys() == attention.keys()
    assert not found[~MASK].any()


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


def test_squeeze_excitation():
    layer = moved(SqueezeExcitation(reduction=2))
    (w1, b1), (w2, b2) = weights(layer.squeeze), weights(layer.excite)
    channels = {key: sigmoid(relu(MAPS[key].astype("float64").mean(axis=(0, 1)) @ w1 + b1) @ w2 + b2) for key in REAL}
    check(layer, {key: MAPS[key] * channels[key] for key in REAL}, {"channels": channels})


def test_convolutional_block_attention():
    layer = moved(ConvolutionalBlockAttention(reduction=2, kernel_size=3))
    (w0,), (w1,), (kernel,) = weights(layer.first), weights(layer.second), weights(layer.spatial)
    expected, channels, maps = {}, {}, {}
    for key in REAL:
        x = MAPS[key].astype("float64")
        channels[key] = sigmoid(sum(relu(pooled @ w0) @ w1 for pooled in (x.mean(axis=(0, 1)), x.max(axis=(0, 1)))))
        x = x * channels[key]
        summaries = np.zeros((6, 4, 2))
        summaries[1:-1, 1:-1] = np.stack([x.mean(axis=-1), x.max(axis=-1)], axis=-1)
        maps[key] = sigmoid(
            np.array([[(summaries[i : i + 3, j : j + 3] * kernel[..., 0]).sum() for j in range(2)] for i in range(4)])
        )
        expected[key] = x * maps[key][..., None]
    check(layer, expected, {"channels": channels, "maps": maps})


@pytest.mark.parametrize("layer", [NonLocal, RelationAwareAttention, SqueezeExcitation, ConvolutionalBlockAttention])
def test_refusals(layer):
    with pytest.raises(ValueError, match="reduction=0"):
        layer(reduction=0)
    with pytest.raises(ValueError, match=r"\(batch, frames, h, w, C\).*\(2, 3, 6\)"):
        layer().build((2, 3, 6))


def test_a_kernel_without_a_middle():
    with pytest.raises(ValueError, match="kernel_size=4"):
        ConvolutionalBlockAttention(kernel_size=4)


def test_the_widths_of_the_papers():
    maps = np.zeros((1, 1, 16, 8, 256), "float32")
    rga, non_local = RelationAwareAttention(), NonLocal()
    rga(maps), non_local(maps)
    widths = [getattr(rga.positions, name).units for name in ("theta", "phi", "own", "related", "hidden", "weight")]
    assert widths == [32, 32, 32, 16, 2, 1]
    assert (rga.channels.theta.units, rga.channels.related.units) == (16, 32)
    assert non_local.theta.units == 128
