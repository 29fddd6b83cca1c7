"""The base of kreid's layers."""

import inspect
from typing import Any

import keras


class KreidLayer(keras.layers.Layer):
    """Base of kreid's layers: `get_config` reads every constructor argument from the attribute of the same name.

    Keras derives a config too, but not from a constructor that got a dtype policy object, and not in a subclass that
    overrides `get_config`. Symbolic shapes and dtypes are Keras's own, derived from `call`.

    Args:
        **kwargs: base layer arguments, such as `name` and `dtype`.
    """

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = super().get_config()
        for name, parameter in inspect.signature(type(self).__init__).parameters.items():
            if name != "self" and name not in config and parameter.kind is not parameter.VAR_KEYWORD:
                config[name] = getattr(self, name)
        return config
