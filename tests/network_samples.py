"""Small functional networks of Keras to make backbones from: one of convolutions, and transformers on patches."""

import keras

SIZE = (64, 32)
CONVOLUTIONS = ("relu1", "relu2", "relu3", "relu4")
BLOCKS = ("block1", "block2", "block3", "block4")


def convolutions(name="small"):
    """Four convolutions of stride 2 with batch normalisation, the last one next to a shortcut; a classifier."""
    layers = keras.layers
    frames = x = keras.Input((*SIZE, 3))
    for stage in range(1, 5):
        y = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name=f"conv{stage}")(x)
        y = layers.BatchNormalization(momentum=0.5, name=f"bn{stage}")(y)
        if stage == 4:
            y = layers.Add()([y, layers.Conv2D(8, 1, strides=2, name="shortcut")(x)])
        x = layers.ReLU(name=f"relu{stage}")(y)
    logits = layers.Dense(3)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(frames, logits, name=name)


@keras.saving.register_keras_serializable(package="kreid_tests")
class ClassToken(keras.layers.Layer):
    """A trained token before the others."""

    def build(self, input_shape):
        self.token = self.add_weight(shape=(1, 1, input_shape[-1]), initializer="normal", name="token")

    def call(self, tokens):
        first = keras.ops.broadcast_to(self.token, (keras.ops.shape(tokens)[0], 1, tokens.shape[-1]))
        return keras.ops.concatenate([first, tokens], axis=1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[1] + 1, input_shape[2])


def transformer(class_token=False):
    """Four blocks of self-attention on the 8 tokens of patches of 16x16 pixels, and a class token if asked."""
    layers = keras.layers
    frames = keras.Input((*SIZE, 3))
    x = layers.Reshape((8, 8))(layers.Conv2D(8, 16, strides=16, name="patches")(frames))
    if class_token:
        x = ClassToken(name="class_token")(x)
    for block in BLOCKS:
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(2, 4, name=f"{block}_attention")(y, y)
        x = layers.Add(name=block)([x, layers.Dense(8, "gelu")(layers.LayerNormalization()(x))])
    return keras.Model(frames, x, name="transformer")
