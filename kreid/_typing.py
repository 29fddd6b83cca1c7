"""Types for annotations."""

from typing import Any, TypeAlias

# A tensor of the Keras backend in use, or a symbolic `keras.KerasTensor`. Keras publishes no type for both.
Tensor: TypeAlias = Any

# The sizes of a tensor's axes in a layer's `build`: integers, or `None` for an unknown size.
Shape: TypeAlias = tuple[Any, ...]
