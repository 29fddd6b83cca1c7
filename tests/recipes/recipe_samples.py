"""Settings with which a recipe takes seconds, and how a test gets at a recipe."""

import importlib
import sys
from pathlib import Path

RECIPES = Path(__file__).parents[2] / "recipes"

TINY = {
    "backbone": "resnet_tiny",
    "backbone_width": None,
    "weights": None,
    "image_size": [64, 32],
    "persons_per_batch": 2,
    "tracklets_per_person": 2,
    "num_frames": 2,
    "steps_per_epoch": 2,
    "epochs": 2,
    "crop_padding": 2,
    "holdout": 0.3,
    "holdout_every": 1,
    "false_match_rate": 0.2,
}
# What a system's run has besides.
OWN = {
    "sta": ["also_test_frames=[1, 4]", "evaluate_untrained=true"],
    "tacan": ["clip_length=2"],
    "mg_rafa": ["num_granularities=2"],
    "gltr": ["images.epochs=1"],
}


def load_recipe(name):
    """A recipe's module, which finds its neighbours as a script does."""
    sys.path.insert(0, str(RECIPES))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(RECIPES))
