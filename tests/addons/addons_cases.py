"""TensorFlow Addons' losses, kreid's of the same equation, and the batch on which they are compared."""

import json
import pathlib

import numpy as np

from kreid import losses

VALUES = pathlib.Path(__file__).parent / "addons_values.json"

# Each anchor has a positive and a negative: TensorFlow Addons counts the others too, in its own ways.
LABELS = np.array([3, 1, 3, 2, 1, 1, 2, 2], "int32")

# By name: the class of TensorFlow Addons and its arguments, kreid's loss, and TensorFlow Addons' factor on it.
CASES = {
    "semi_hard": ("TripletSemiHardLoss", {}, losses.SemiHardTriplet(1.0), 1),
    "semi_hard_squared": (
        "TripletSemiHardLoss",
        {"margin": 0.3, "distance_metric": "squared-L2"},
        losses.SemiHardTriplet(0.3, "squared_euclidean"),
        1,
    ),
    "semi_hard_cosine": (
        "TripletSemiHardLoss",
        {"margin": 0.5, "distance_metric": "angular"},
        losses.SemiHardTriplet(0.5, "cosine"),
        1,
    ),
    "hard": ("TripletHardLoss", {}, losses.BatchHardTriplet(1.0), 1),
    "hard_soft": (
        "TripletHardLoss",
        {"soft": True, "distance_metric": "squared-L2"},
        losses.BatchHardTriplet("soft", "squared_euclidean"),
        1,
    ),
    "hard_cosine": (
        "TripletHardLoss",
        {"margin": 0.2, "distance_metric": "angular"},
        losses.BatchHardTriplet(0.2, "cosine"),
        1,
    ),
    "lifted": ("LiftedStructLoss", {"margin": 1.5}, losses.LiftedStructure(1.5), 1),
    "n_pairs": ("NpairsLoss", {}, losses.NPairs(miner="one"), 1),
    # Without the factor 1/2 of the paper.
    "contrastive": ("ContrastiveLoss", {"margin": 3.0}, losses.Contrastive(3.0), 2),
}


def embeddings(batch=8, features=5):
    return np.random.default_rng(0).normal(size=(batch, features)).astype("float32")


def reference_values():
    """Return TensorFlow Addons' value and gradient of each case."""
    cases = json.loads(VALUES.read_text())["cases"]
    return {name: (case["value"], np.array(case["gradient"])) for name, case in cases.items()}
