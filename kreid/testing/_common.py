"""What the contracts share."""

import keras
from keras import ops


def require(what, condition, sentence):
    """Raises `AssertionError` with a sentence of the contract unless a condition holds.

    Args:
        what: str, whose contract it is, such as `"A layer"`.
        condition: bool.
        sentence: str, what the contract says, without a full stop.

    Raises:
        AssertionError: if the condition does not hold.
    """
    if not condition:
        raise AssertionError(f"{what}'s contract: {sentence}.")


def value_and_gradients(function, inputs, variables=()):
    """Returns a function's value, and the gradients of the value's sum. TensorFlow and JAX only.

    Args:
        function: callable of one tensor that returns one float tensor.
        inputs: array.
        variables: list of Keras variables that the function uses.

    Returns:
        The value, the gradient for the inputs and the list of those for the variables, as NumPy. A gradient of what
        the value does not depend on is zero or `None`, as the backend has it.

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
