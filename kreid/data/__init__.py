"""From image files on disk to batches of tracklets.

A reader (`read_mars`, `read_folder`, ...; `read_dataset` chooses one) returns a `ReidDataset` of `Tracklet` records;
`TrainingPipeline` and `EvaluationPipeline` turn tracklets into `tf.data` batches. Importing this package imports
neither TensorFlow nor Keras: each name is imported on first use.
"""

import lazy_loader

from kreid._moved import with_moved_names

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__getattr__ = with_moved_names(
    __name__,
    __getattr__,
    dict.fromkeys(("TrackLimits", "Tracks", "cut_tracklets", "embed_tracks", "read_tracks"), "kreid.tracks"),
)
