"""Helpers that the contracts share."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike


def require(owner: str, condition: Any, sentence: str) -> None:
    """Raise `AssertionError` with a sentence of the contract unless a condition holds.

    Args:
        owner: the contract's owner, such as `"A layer"`.
        condition: the condition.
        sentence: sentence of the contract, without a full stop.

    Raises:
        AssertionError: if the condition does not hold.
    """
    if not condition:
        raise AssertionError(f"{owner}'s contract: {sentence}.")


def value_and_gradients(
    function: Callable[[Any], Any], inputs: ArrayLike, variables: Sequence[keras.Variable] = ()
) -> tuple[np.ndarray, np.ndarray | None, list[np.ndarray | None]]:
    """Return a function's value, and the gradients of the value's sum. TensorFlow and JAX only.

    Args:
        function: callable of one tensor that returns one float tensor.
        inputs: array.
        variables: Keras variables that the function uses.

    Returns:
        The value, the gradient for the inputs and the list of gradients for the variables, as NumPy. The gradient for
        an input or variable that the value does not depend on is zero or `None`, depending on the backend.

    Raises:
        NotImplementedError: on another backend.
    """
    backend = keras.backend.backend()
    inputs = ops.convert_to_tensor(inputs)
    values = [variable.value for variable in variables]
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = function(inputs)
        by_inputs, by_variables = tape.gradient(value, (inputs, values))
    elif backend == "jax":
        import jax

        def summed(inputs, values):
            state = list(zip(variables, values, strict=True))
            with keras.StatelessScope(state_mapping=state, collect_losses=True):
                value = function(inputs)
            return ops.sum(value), value

        gradient = jax.grad(summed, argnums=(0, 1), allow_int=True, has_aux=True)
        (by_inputs, by_variables), value = gradient(inputs, values)
    else:
        raise NotImplementedError(f"Use the TensorFlow or the JAX backend. Received: backend={backend!r}")
    by_inputs, *by_variables = [None if g is None else ops.convert_to_numpy(g) for g in (by_inputs, *by_variables)]
    return ops.convert_to_numpy(value), by_inputs, by_variables
