"""The base of kreid's layers."""

import inspect
from typing import Any

import keras

from kreid._typing import Shape


class KreidLayer(keras.layers.Layer):
    """Base of kreid's layers: `get_config` reads every constructor argument from the attribute of the same name.

    Keras derives a config too, but not from a constructor that got a dtype policy object, and not in a subclass that
    overrides `get_config`.

    Keras also derives symbolic outputs, by tracing `call`, which takes 5 to 100 ms for each use in a model. So layers
    state them: by `compute_output_shape`, and by `attention_shape` what `return_attention` adds.

    Args:
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Attributes:
        uniform_attention: where a layer has attention weights, it uses equal ones instead of its own. Set it before the
            layer is called: a traced graph keeps what it had. It is not saved; see
            `kreid.models.with_uniform_attention`.
    """

    uniform_attention = False

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = super().get_config()
        for name, parameter in inspect.signature(type(self).__init__).parameters.items():
            if name != "self" and name not in config and parameter.kind is not parameter.VAR_KEYWORD:
                config[name] = getattr(self, name)
        return config

    def attention_shape(self, input_shape: Shape) -> Any:
        """Return the shapes of the float32 attentions from that of the inputs, `None` for a layer without any."""
        return None

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Return symbolic outputs, with the attentions if `return_attention` is set."""
        output = super().compute_output_spec(*args, **kwargs)
        given = inspect.signature(self.call).bind(*args, **kwargs).arguments
        inputs = next(iter(given.values()))
        shapes = self.attention_shape(inputs.shape) if given.get("return_attention") else None
        if shapes is None:
            return output
        return output, keras.tree.map_shape_structure(lambda shape: keras.KerasTensor(shape, dtype="float32"), shapes)
