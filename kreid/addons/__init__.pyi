from . import losses as losses
from .keras2 import (
    from_tf_keras as from_tf_keras,
    load_tf_keras_weights as load_tf_keras_weights,
    saved_model_layer as saved_model_layer,
)
from .package import full as full
