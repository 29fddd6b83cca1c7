"""What the attentions that MG-RAFA is compared with have in common: their widths and refusals."""

import numpy as np
import pytest

from kreid.layers import ConvolutionalBlockAttention, NonLocal, RelationAwareAttention, SqueezeExcitation


@pytest.mark.parametrize("layer", [NonLocal, RelationAwareAttention, SqueezeExcitation, ConvolutionalBlockAttention])
def test_refusals(layer):
    with pytest.raises(ValueError, match="reduction=0"):
        layer(reduction=0)
    with pytest.raises(ValueError, match=r"\(batch, frames, h, w, C\).*\(2, 3, 6\)"):
        layer().build((2, 3, 6))


def test_the_widths_of_the_papers():
    maps = np.zeros((1, 1, 16, 8, 256), "float32")
    rga, non_local = RelationAwareAttention(), NonLocal()
    rga(maps), non_local(maps)
    widths = [getattr(rga.positions, name).units for name in ("theta", "phi", "own", "related", "hidden", "weight")]
    assert widths == [32, 32, 32, 16, 2, 1]
    assert (rga.channels.theta.units, rga.channels.related.units) == (16, 32)
    assert non_local.theta.units == 128
