"""Masks from lengths, and the shape of lengths."""

import numpy as np
import pytest

from kreid.layers import FrameSelection, LengthsToMask


def test_mask_clips_lengths():
    mask = LengthsToMask()(np.zeros((3, 2, 7)), np.array([-1, 1, 5])).numpy()
    assert mask.tolist() == [[False, False], [True, False], [True, True]]


@pytest.mark.parametrize("layer", [LengthsToMask(), FrameSelection("evenly", 2)])
@pytest.mark.parametrize("lengths", [[[2], [1], [3]], [2, 1], [2, 1, 3, 1]])
def test_lengths_are_one_per_tracklet(layer, lengths):
    shape = str(np.shape(lengths)).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ValueError, match=rf"lengths must be \(batch,\).*lengths of shape {shape}"):
        layer(np.zeros((3, 4, 5), "float32"), np.array(lengths))
