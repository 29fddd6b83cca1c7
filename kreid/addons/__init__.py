"""The bridge to TensorFlow Addons and to Keras 2 (`tf_keras`), which do not work with Keras 3.

`kreid.addons.losses` has TensorFlow Addons' metric losses as Keras 3 losses; `full` imports the whole package in
Keras 2's mode; `from_tf_keras` and `load_tf_keras_weights` bring networks of Keras 2 into kreid's backbones;
`saved_model_layer` brings a kreid model into Keras 2. Names are imported on first use: `pip install 'kreid[addons]'`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
