"""From image files on disk to batches of tracklets.

A reader (`read_mars`, `read_folder`, ...; `read_dataset` finds the right one) gives a `ReidDataset` of `Tracklet`
records; `TrainingPipeline` and `EvaluationPipeline` turn tracklets into
`tf.data`. Importing this package imports neither TensorFlow nor Keras: names
are fetched when first used.
"""

from kreid._lazy import attach

_HOMES = {
    "Tracklet": "tracklet",
    "ReidDataset": "tracklet",
    "JUNK": "tracklet",
    "DISTRACTOR": "tracklet",
    "layout_of": "readers",
    "read_dataset": "readers",
    "read_duke_video": "readers",
    "read_folder": "readers",
    "read_ilids_vid": "readers",
    "read_images": "readers",
    "read_ls_vid": "readers",
    "read_mars": "readers",
    "read_prid2011": "readers",
    "TrackLimits": "tracks",
    "Tracks": "tracks",
    "cut_tracklets": "tracks",
    "embed_tracks": "tracks",
    "read_tracks": "tracks",
    "decode_frame": "frames",
    "decode_frames": "frames",
    "read_frames": "frames",
    "random_clip": "clips",
    "chunk_clip": "clips",
    "adjacent_clip": "clips",
    "adjacent_clips": "clips",
    "evenly": "clips",
    "PKSampler": "identities",
    "ShuffledSampler": "identities",
    "Augmentation": "augment",
    "FrameCache": "cache",
    "DamageLog": "damage",
    "DataReport": "check",
    "check_dataset": "check",
    "TrainingPipeline": "pipeline",
    "EvaluationPipeline": "pipeline",
}

__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
