"""Names for annotations."""

from typing import Any, TypeAlias

# A tensor of the Keras backend in use, or a symbolic `keras.KerasTensor`. Keras publishes no type for both.
Tensor: TypeAlias = Any

# The sizes of a tensor's axes, as a layer's `build` gets them: integers, `None` where a size is not known yet.
Shape: TypeAlias = tuple[Any, ...]
