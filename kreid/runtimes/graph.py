"""The embedder as one function, from which the converters read the graph."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kreid.models import TrackletModel

_HALF = ("mixed_bfloat16", "mixed_float16", "bfloat16", "float16")


def in_float32(model: "TrackletModel") -> "TrackletModel":
    """Return the model, or its twin with the same weights that computes in float32: other runtimes lack bfloat16."""
    config = model.get_config()
    replaced = _in_float32(config)
    if replaced == config:
        return model
    twin = type(model).from_config(replaced)
    twin.set_weights(model.get_weights())
    return twin


def _in_float32(value: Any) -> Any:
    """Return a config with float32 in place of each policy of half precision."""
    if isinstance(value, dict):
        return {key: _in_float32(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_in_float32(entry) for entry in value)
    return "float32" if isinstance(value, str) and value in _HALF else value


def embedding_function(model: Any) -> Any:
    """Return the `tf.function` from frames and lengths to the embedding; `input_signature` names its inputs.

    Preprocessing and the choice of test frames are inside. Lengths beyond `0..T` are clipped.
    """
    import tensorflow as tf

    frames_spec = tf.TensorSpec([None, None, *map(int, model.image_size), 3], tf.uint8, "frames")
    lengths_spec = tf.TensorSpec([None], tf.int32, "lengths")

    @tf.function(input_signature=[frames_spec, lengths_spec], autograph=False)
    def embed(frames, lengths):
        embedding = model.embedder({"frames": frames, "lengths": lengths}, training=False)
        return {"embedding": tf.cast(embedding, tf.float32)}

    return embed
