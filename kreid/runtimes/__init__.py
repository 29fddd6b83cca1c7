"""Models as files of other runtimes, ONNX, LiteRT and OpenVINO, and as Keras files with their card.

`export` writes one and compares it with the model; `load_export` opens one, or a SavedModel, in its runtime. A process
that only opens a file of ONNX, LiteRT or OpenVINO imports neither Keras nor TensorFlow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
