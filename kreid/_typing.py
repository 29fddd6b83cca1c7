"""Names for annotations."""

from typing import Any, TypeAlias

# A tensor of the Keras backend in use, or a symbolic `keras.KerasTensor`. Keras publishes no type for both.
Tensor: TypeAlias = Any

# A shape with `None` for every axis whose length is unknown.
Shape: TypeAlias = tuple[int | None, ...]
