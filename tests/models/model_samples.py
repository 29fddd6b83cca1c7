"""Every system with small settings off its defaults, and a batch to train it on."""

import keras
import numpy as np

import kreid
from kreid.losses import BatchHardTriplet, SmoothedIdentity
from kreid.models import SYSTEMS

RNG = np.random.default_rng(5)
SIZE = (64, 32)
FRAMES = RNG.integers(0, 256, (4, 5, *SIZE, 3)).astype("uint8")
LENGTHS = np.array([5, 1, 3, 0])
CASES = {
    "baseline": {"embedding_dim": 24, "embedding_from": "pooled", "metric": "euclidean", "normalize": True},
    "gltr": {
        "feature_dim": 12,
        "pyramid": "pooling",
        "num_branches": 2,
        "self_attention": True,
        "attention_normalization": "softmax",
        "reduction": 3,
        "freeze_backbone": False,
        "bnneck": True,
    },
    "mg_rafa": {
        "attention": "reference_aided",
        "num_granularities": 2,
        "num_splits": None,
        "references": "grid",
        "reference_grid": [2, 1, 2],
        "num_frames": 6,
        "reduction": 2,
        "granularity_losses": True,
        "test_frames": 5,
    },
    "rtf": {
        "embedding_dim": 24,
        "fusion": "multi_stage",
        "stages": [1, 3, 4],
        "semantic": "attention",
        "attention": "intra_inter_relation",
        "relation_dim": 16,
        "bnneck": True,
    },
    "sta": {
        "embedding_dim": 24,
        "num_stripes": 2,
        "fusion": False,
        "regularization": 0.2,
        "bnneck": True,
        "test_frames": 3,
    },
    "tacan": {
        "clip_length": 2,
        "frame_attention": "temporal",
        "clip_attention": "sigmoid",
        "embedding_dim": 24,
        "hidden_dim": 8,
        "bnneck": True,
    },
}


def make(system, **kwargs):
    backbone = kreid.backbones.build("resnet_tiny", image_size=SIZE, last_stride=1)
    return SYSTEMS[system](backbone, 6, **{**CASES[system], **kwargs})


def compiled(model, **kwargs):
    losses = {"logits": SmoothedIdentity(0.1), "features": BatchHardTriplet(0.3)}
    losses = {name: losses[name.split("_")[0]] for name in model.loss_targets}
    model.compile(keras.optimizers.Adam(1e-3), loss=losses, jit_compile=False, **kwargs)
    return model


def batch(targets=("logits", "features")):
    labels = np.array([0, 0, 1, 1], "int32")
    lengths = np.full(4, 5, "int32")
    return {"frames": FRAMES, "lengths": lengths}, dict.fromkeys(targets, labels)
