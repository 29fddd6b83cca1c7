import pytest
import tensorflow as tf

import kreid
from kreid.models import count_macs
from kreid.models.cost import graph_macs


def test_a_network_counted_by_hand():
    backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32), last_stride=1)
    model = kreid.models.Baseline(backbone, 5, embedding_dim=24)
    # Stem 7x7 to 32x16, pooled to 16x8; conv2 without projection; the others halve the map (conv5 does not).
    macs = 32 * 16 * 16 * 49 * 3
    macs += 2 * 16 * 8 * 16 * 9 * 16
    for pixels, before, after in ((8 * 4, 16, 32), (4 * 2, 32, 64), (4 * 2, 64, 128)):
        macs += pixels * after * (9 * before + 9 * after + before)
    assert count_macs(model, 3) == 3 * macs + 128 * 24


def aggregation_macs(nodes=(8, 16, 8), channels=2048, **kwargs):
    layer = kreid.layers.ReferenceAidedAggregation(**kwargs)
    aggregate = tf.function(lambda maps: layer(maps, training=False))
    return graph_macs(aggregate.get_concrete_function(tf.TensorSpec((1, *nodes, channels))).graph)


def test_what_the_paper_counts():
    """MG-RAFA's Table 2 gives its baseline 32.694 GMAC for 8 frames; its classifier is not part of an embedding.

    To that MG-RAFA (N=4) adds less than 1%, and 9.2% of what SG-RAFA (S=1) adds.
    """
    backbone = kreid.backbones.build("resnet50", image_size=(256, 128), last_stride=1)
    baseline = count_macs(kreid.models.Baseline(backbone, 2), 8)
    assert baseline / 1e9 == pytest.approx(32.694, rel=0.01)
    many, one = aggregation_macs(), aggregation_macs(num_granularities=1)
    assert many < 0.01 * baseline
    assert 0.09 < many / one < 0.095


def test_reference_aided_aggregation_counted_by_hand():
    # Groups of 8 channels and 4x2 and 2x1 positions: phi and mu of every node, nu of every reference; equation 1, psi,
    # theta.
    expected = 0
    for positions in (8, 2):
        nodes, relations = 3 * positions, max(1, positions // 2)
        expected += nodes * 2 * 8 * 4 + positions * 8 * 4
        expected += nodes * positions * 4 + nodes * positions * relations + nodes * (4 + relations) * 8
    assert aggregation_macs((3, 4, 2), 16, num_granularities=2, reduction=2) == expected


def test_attention_is_counted_where_it_is_a_product():
    backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32), last_stride=1)
    sta = kreid.models.STA(backbone, 5, embedding_dim=24, num_stripes=4, test_frames=4)
    base = kreid.models.Baseline(backbone, 5)
    fused = 4 * 2 * (4 * 2 * 128)  # four frames, two fusions, every value of the map
    assert count_macs(sta, 4) == count_macs(base, 4) + fused + 2 * 128 * 24


def test_no_frame():
    backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32))
    with pytest.raises(ValueError, match="num_frames=0"):
        count_macs(kreid.models.Baseline(backbone, 5), 0)
