"""Pixel scaling as the backbone's weights expect it."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.layers.base import KreidLayer

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Which backbones may ask for, see `FramePreprocessing`.
PREPROCESSINGS = ("torch", "caffe", "tf", "none")
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)


@keras.saving.register_keras_serializable(package="kreid")
class FramePreprocessing(KreidLayer):
    """Scale RGB frames of 0..255 as a backbone was trained on them.

    Masking: each pixel is scaled separately; passes masks on.

    Args:
        mode: `"torch"` (scaled to 0..1, ImageNet mean and deviation per channel), `"caffe"` (BGR, ImageNet mean
            subtracted, not scaled: keras.applications' ResNet-50 and the GLTR paper), `"tf"` (scaled to -1..1:
            keras.applications' Inception) or `"none"` (0..255, for networks that scale pixels themselves, such as
            keras.applications' EfficientNet).
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        frames: uint8 or float RGB values of 0..255.

    Input shape: `(..., H, W, 3)`.
    Output shape: the same, in the compute dtype.

    Raises:
        ValueError: for an unknown mode, or frames without three channels.

    Example:

    >>> white = np.full((1, 2, 4, 4, 3), 255, "uint8")
    >>> float(kreid.layers.FramePreprocessing("caffe")(white)[0, 0, 0, 0, 0])
    151.061...

    Reference: the ImageNet constants of torchvision and of the Caffe ResNets.
    """

    def __init__(self, mode: str = "torch", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if mode not in PREPROCESSINGS:
            raise ValueError(f"The mode must be one of {', '.join(PREPROCESSINGS)}. Received: mode={mode!r}")
        self.mode = mode
        self.supports_masking = True
        self.autocast = False

    def build(self, input_shape: Shape) -> None:
        if input_shape[-1] != 3:
            raise ValueError(f"Frames must end in 3 channels, RGB. Received: shape={tuple(input_shape)!r}")

    def call(self, frames: Tensor) -> Tensor:
        # Scaled in float32: bfloat16 cannot tell 255 from 254.
        x = ops.cast(frames, "float32")
        if self.mode == "caffe":
            x = ops.flip(x, axis=-1) - ops.array(CAFFE_MEAN_BGR, "float32")
        elif self.mode == "tf":
            x = x / 127.5 - 1.0
        elif self.mode == "torch":
            scale = 1 / (255 * ops.array(IMAGENET_STD, "float32"))
            x = x * scale - ops.array(IMAGENET_MEAN, "float32") / ops.array(IMAGENET_STD, "float32")
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape
