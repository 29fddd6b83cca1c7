"""How far apart a batch's attention weights are."""

import numpy as np

from kreid.training.attention_log import attention_spread


def test_attention_spread_is_that_of_the_equations():
    weights = np.random.default_rng(4).random((3, 2, 5))
    flat = weights.reshape(3, -1)
    spread = attention_spread(weights)
    np.testing.assert_allclose(spread["spread"], np.mean([row.std() / row.mean() for row in flat]), rtol=1e-12)
    np.testing.assert_allclose(spread["effective"], np.mean([row.sum() ** 2 / (row @ row) for row in flat]), rtol=1e-12)
    assert attention_spread(np.full((2, 4), 0.25)) == {"spread": 0.0, "effective": 4.0}
    assert attention_spread(np.zeros((2, 4))) == {"spread": 0.0, "effective": 0.0}
    assert attention_spread(np.eye(4)[:2])["effective"] == 1.0
