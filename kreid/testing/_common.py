"""Helpers that the contracts share."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike


def require(owner: str, condition: object, sentence: str) -> None:
    """Raise `AssertionError` with a sentence of the contract unless a condition holds.

    Args:
        owner: the contract's owner, such as `"A layer"`.
        condition: a value whose truth is tested.
        sentence: the sentence, without a full stop.

    Raises:
        AssertionError: if the condition does not hold.
    """
    if not condition:
        raise AssertionError(f"{owner}'s contract: {sentence}.")


def compiled(function: Callable[..., Any], variables: Sequence[keras.Variable] = ()) -> Callable[..., Any]:
    """Return the function compiled as a whole on JAX, once per shape, and unchanged on other backends.

    Without it JAX compiles each operation separately for each shape.

    Args:
        function: callable from tensors to tensors. On JAX, values that it assigns to variables are discarded.
        variables: Keras variables that the function uses.

    Returns:
        A callable of arrays, as positional and keyword arguments.
    """
    if keras.backend.backend() != "jax":
        return function
    import jax

    @jax.jit
    def stateless(values, arguments, keywords):
        state = list(zip(variables, values, strict=True))
        with keras.StatelessScope(state_mapping=state, collect_losses=True):
            return function(*arguments, **keywords)

    return lambda *arguments, **keywords: stateless([variable.value for variable in variables], arguments, keywords)


def gradient_function(
    function: Callable[[Any], Any], variables: Sequence[keras.Variable] = (), *, jit: bool = False
) -> Callable[[ArrayLike], tuple[np.ndarray, np.ndarray | None, list[np.ndarray | None]]]:
    """Return a callable for a function's value and the gradients of its sum, on TensorFlow and JAX.

    Args:
        function: callable from one tensor to one float tensor.
        variables: Keras variables that the function uses.
        jit: on JAX, compile function and gradients as a whole, once per shape.

    Returns:
        A callable of one array. It returns NumPy arrays: the value, the gradient for the array, and the list of
        gradients for the variables. If the value does not depend on the array or a variable, the gradient is zero or
        `None`, by backend.

    Raises:
        NotImplementedError: on another backend.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        def both(inputs):
            values = [variable.value for variable in variables]
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                value = function(inputs)
            return tape.gradient(value, (inputs, values)), value
    elif backend == "jax":
        import jax

        def summed(inputs, values):
            state = list(zip(variables, values, strict=True))
            with keras.StatelessScope(state_mapping=state, collect_losses=True):
                value = function(inputs)
            return ops.sum(value), value

        gradient = jax.grad(summed, argnums=(0, 1), allow_int=True, has_aux=True)
        gradient = jax.jit(gradient) if jit else gradient

        def both(inputs):
            return gradient(inputs, [variable.value for variable in variables])
    else:
        raise NotImplementedError(f"Use the TensorFlow or the JAX backend. Received: backend={backend!r}")

    def value_and_gradients(inputs):
        (by_inputs, by_variables), value = both(ops.convert_to_tensor(inputs))
        by_inputs, *by_variables = [None if g is None else ops.convert_to_numpy(g) for g in (by_inputs, *by_variables)]
        return ops.convert_to_numpy(value), by_inputs, by_variables

    return value_and_gradients
