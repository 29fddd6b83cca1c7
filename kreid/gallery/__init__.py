"""Make embeddings, keep them in a file and search them.

Names are imported on first use: importing this package imports neither NumPy nor Keras.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
