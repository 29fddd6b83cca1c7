"""From image files on disk to batches of tracklets.

A reader (`read_mars`, `read_folder`, ...; `read_dataset` finds the right one) gives a `ReidDataset` of `Tracklet`
records; `TrainingPipeline` and `EvaluationPipeline` turn tracklets into
`tf.data`. Importing this package imports neither TensorFlow nor Keras: names
are fetched when first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
