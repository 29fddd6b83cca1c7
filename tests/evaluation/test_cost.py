import pytest

import kreid
from kreid.evaluation import count_macs


def test_a_network_counted_by_hand():
    backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32), last_stride=1)
    model = kreid.models.Baseline(backbone, 5, embedding_dim=24)
    # Stem 7x7 to 32x16, pooled to 16x8; conv2 without projection; the others halve the map (conv5 does not).
    macs = 32 * 16 * 16 * 49 * 3
    macs += 2 * 16 * 8 * 16 * 9 * 16
    for pixels, before, after in ((8 * 4, 16, 32), (4 * 2, 32, 64), (4 * 2, 64, 128)):
        macs += pixels * after * (9 * before + 9 * after + before)
    assert count_macs(model, 3) == 3 * macs + 128 * 24


def test_what_the_paper_counts_for_resnet50():
    """MG-RAFA's Table 2 gives its baseline 32.694 GMAC for 8 frames; its classifier is not part of an embedding."""
    backbone = kreid.backbones.build("resnet50", image_size=(256, 128), last_stride=1)
    assert count_macs(kreid.models.Baseline(backbone, 2), 8) / 1e9 == pytest.approx(32.694, rel=0.01)


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
