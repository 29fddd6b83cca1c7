"""kreid: video person re-identification in Keras 3, from tracklets to served embeddings.

Importing kreid imports neither Keras nor TensorFlow; each package is imported on first use.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
