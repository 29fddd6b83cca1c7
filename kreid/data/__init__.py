"""From image files on disk to batches of tracklets.

A reader (`read_mars`, `read_folder`) gives a `ReidDataset` of `Tracklet`
records; `TrainingPipeline` and `EvaluationPipeline` turn tracklets into
`tf.data`. Importing this package imports neither TensorFlow nor Keras: names
are fetched when first used.
"""

import importlib

_HOMES = {
    "Tracklet": "tracklet",
    "ReidDataset": "tracklet",
    "JUNK": "tracklet",
    "DISTRACTOR": "tracklet",
    "read_mars": "readers",
    "read_folder": "readers",
    "decode_frame": "frames",
    "decode_frames": "frames",
    "read_frames": "frames",
    "random_clip": "clips",
    "chunk_clip": "clips",
    "adjacent_clip": "clips",
    "PKSampler": "identities",
    "Augmentation": "augment",
    "DamageLog": "damage",
    "TrainingPipeline": "pipeline",
    "EvaluationPipeline": "pipeline",
}

__all__ = sorted(_HOMES)


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_HOMES})
