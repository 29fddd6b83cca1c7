"""Random weights for a backbone, and maps through some of its stages."""

import numpy as np
from keras import ops


def randomised(model, seed=0):
    """Random values everywhere, moving statistics included, so that no weight is at its neutral start."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        low = 0.5 if "variance" in weight.path or "gamma" in weight.path else -0.1
        weight.assign(rng.uniform(low, low + 0.7 if low > 0 else 0.1, weight.shape))
    return model


def through(backbone, x, first, branch=0):
    """Maps after all stages from number `first`."""
    for stage in backbone.stages[first:]:
        x = stage(x, branch=branch)
    return ops.convert_to_numpy(x)
