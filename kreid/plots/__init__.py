"""Pictures of results, without Keras or TensorFlow. Pillow draws; embedding maps need the extra `plots`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
