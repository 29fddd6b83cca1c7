"""Optimisers with the weight decay that the papers used, and warming up for any learning rate."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from kreid._typing import Tensor


class _PerVariable(keras.optimizers.Optimizer):  # type: ignore[misc]
    """Add to a Keras optimiser what the papers and practice use: see `L2Adam` and `L2SGD`.

    On TensorFlow, outside of `tf.distribute`, a variable is updated by one kernel, equal to Keras's steps within the
    rounding of `1 - beta_2` in float32. Keras's steps are taken for `amsgrad` and for SGD without momentum.

    Keras's own `weight_decay` shrinks the variables apart from the update (decoupled, as in AdamW). L2 in the gradient
    is another method: with Adam the two differ by the gradient's scale.
    """

    def __init__(self, *args: Any, l2: float = 0.0, rates: Mapping[str, float] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if l2 < 0:
            raise ValueError(f"Weight decay cannot be negative. Received: l2={l2!r}")
        if not all(0 <= factor < math.inf for factor in (rates or {}).values()):
            raise ValueError(f"The factors of the learning rate are at least 0. Received: rates={rates!r}")
        self.l2 = l2
        # As tuples: Keras wraps a dict in an attribute.
        self._rates = tuple((rates or {}).items())

    def build(self, variables: list[keras.Variable]) -> None:
        super().build(variables)
        self._factors = _by_prefix("rates", self._rates, variables, default=1.0)
        if self.use_ema:
            # A variable that is frozen at first has an average too. A copy, as JAX gives each buffer away once.
            for variable, average in self.averages():
                average.assign(keras.ops.copy(variable))

    def averages(self) -> list[tuple[keras.Variable, keras.Variable]]:
        """Return pairs of a variable and its moving average; none without `use_ema`."""
        if not self.use_ema or not self.built:
            return []
        pairs = zip(self._trainable_variables, self._model_variables_moving_average, strict=True)
        return [(variable, average) for variable, average in pairs if average is not None]

    def update_step(self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor) -> None:
        factor = self._factors[self._get_variable_index(variable)]
        rate = learning_rate if factor == 1.0 else learning_rate * factor
        if self.weight_decay and self._use_weight_decay(variable):
            decay = keras.ops.cast(rate, variable.dtype) * self.weight_decay
            self.assign_sub(variable, variable * decay)
        if self.l2:
            gradient = gradient + self.l2 * keras.ops.cast(variable, gradient.dtype)
        if not self._step_by_one_kernel(gradient, variable, rate):
            super().update_step(gradient, variable, rate)

    def _step_by_one_kernel(self, gradient: Tensor, variable: keras.Variable, rate: Tensor) -> bool:
        """Take Keras's step by one kernel of TensorFlow, which reads and writes each weight once; say if it could."""
        if keras.backend.backend() != "tensorflow":
            return False
        import tensorflow as tf

        if tf.distribute.has_strategy() or isinstance(gradient, tf.IndexedSlices):
            return False
        given = {
            "var": _handle(variable),
            "grad": tf.cast(gradient, variable.dtype),
            "lr": tf.cast(rate, variable.dtype),
        }
        return self._kernel(given, self._get_variable_index(variable))

    def _kernel(self, given: dict[str, Any], index: int) -> bool:
        """Run the kernel of a variable; return whether there is one for this optimiser's settings."""
        raise NotImplementedError(f"{type(self).__name__} must implement _kernel().")

    def _clip_gradients(self, grads: list[Tensor]) -> list[Tensor]:
        """Clip the gradient of the whole batch: Keras clips that of each replica of a mirrored model."""
        if self.global_clipnorm and keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            context = tf.distribute.get_replica_context()
            if context is not None and context.num_replicas_in_sync > 1:
                total = context.all_reduce(tf.distribute.ReduceOp.SUM, list(grads))
                # The update sums over the replicas.
                return [gradient / context.num_replicas_in_sync for gradient in super()._clip_gradients(total)]
        return super()._clip_gradients(grads)

    def _apply_weight_decay(self, variables: list[keras.Variable]) -> None:
        """Do nothing: `update_step` decays a variable by its own rate."""

    def _get_current_learning_rate(self) -> Tensor:
        """Return the rate of this update: Keras counts batches, also where several make one update."""
        schedule = self._learning_rate
        if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
            return schedule(self.iterations)
        return super()._get_current_learning_rate()

    def _update_model_variables_moving_average(self, trainable_variables: list[keras.Variable]) -> None:
        """Average after each update; Keras does after each batch, also where several make one update."""
        batches = self.gradient_accumulation_steps or 1
        update = keras.ops.cast(self.iterations, "float32")
        momentum = keras.ops.minimum(self.ema_momentum, update / (update + 9.0))
        momentum = keras.ops.where((self._iterations + 1) % batches == 0, momentum, 1.0)
        for variable, average in self.averages():
            if variable.trainable:
                share = keras.ops.cast(momentum, average.dtype)
                average.assign(share * average + (1.0 - share) * variable)

    def finalize_variable_values(self, var_list: list[keras.Variable]) -> None:
        """Set the variables to their averages, as Keras does at the end of `fit`; `var_list` may be some of them."""
        averages = {id(variable): average for variable, average in self.averages()}
        for variable in var_list:
            if id(variable) in averages:
                variable.assign(keras.ops.copy(averages[id(variable)]))

    def stateless_apply(
        self, optimizer_variables: list[Tensor], grads: list[Tensor], trainable_variables: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Apply gradients of the variables that are trained now, on JAX: Keras asks for those of all variables."""
        trained = [variable for variable in self._trainable_variables if variable.trainable]
        if len(trained) == len(self._trainable_variables) or len(trained) != len(trainable_variables):
            return super().stateless_apply(optimizer_variables, grads, trainable_variables)
        mapping = [*zip(trained, trainable_variables, strict=True)]
        mapping += zip(self.variables, optimizer_variables, strict=True)
        with keras.StatelessScope(state_mapping=mapping) as scope:
            self.apply(grads, trained)
        return (
            [scope.get_current_value(variable) for variable in trained],
            [scope.get_current_value(variable) for variable in self.variables],
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "l2": self.l2, "rates": dict(self._rates)}


def _handle(variable: Any) -> Any:
    """Return TensorFlow's handle of a variable of Keras or TensorFlow."""
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle


def _by_prefix(
    name: str, values: Iterable[tuple[str, Any]], variables: list[keras.Variable], default: Any
) -> tuple[Any, ...]:
    """Return the value of each variable: of the longest prefix of its path, or the default."""
    found = [default] * len(variables)
    for prefix, value in sorted(values, key=lambda item: len(item[0])):
        inside = [index for index, variable in enumerate(variables) if variable.path.startswith(prefix)]
        if not inside:
            raise ValueError(
                f"No trained variable has a path that starts so. Received: {name}={{{prefix!r}: {value!r}}}"
            )
        for index in inside:
            found[index] = value
    return tuple(found)


@keras.saving.register_keras_serializable(package="kreid")
class L2Adam(_PerVariable, keras.optimizers.Adam):
    """Adam with L2 regularisation in the gradient, and rates and starts by variable.

    With `use_ema` the momentum of the u-th update, from 0, is `min(ema_momentum, u / (u + 9))`, so that the average of
    a short run leaves the initial values. With `gradient_accumulation_steps` a schedule and the average count updates.

    Args:
        *args: of `keras.optimizers.Adam`.
        l2: coefficient, PyTorch's `weight_decay`: `l2 * variable` joins the gradient before the moments.
        rates: from the beginning of a variable's path to a factor on its learning rate and decoupled decay; the longest
            holds, and other variables have 1.
        starts: from the beginning of a variable's path to the update, from 0, at which its training starts. The
            correction of the moments' bias counts from there, as in PyTorch; counted from the first update, the first
            steps of a variable that was frozen would be up to 6 times too long.
        **kwargs: of `keras.optimizers.Adam`.

    Raises:
        ValueError: for a negative coefficient or factor, or, when built, a path that no variable has.

    Example:

    >>> kreid.optimizers.L2Adam(3e-4, l2=5e-4).l2
    0.0005
    >>> dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", name="dense")
    >>> dense.build((None, 1))
    >>> optimizer = kreid.optimizers.L2Adam(0.1, rates={"dense/": 0.5})
    >>> optimizer.apply([np.ones((1, 1), "float32")], dense.trainable_variables)
    >>> round(float(dense.kernel[0, 0]), 4)
    0.95

    Reference: Kingma and Ba, Adam: A Method for Stochastic Optimization, 2015. The momentum of short runs is that of
    TensorFlow's `ExponentialMovingAverage` with `num_updates`.
    """

    def __init__(self, *args: Any, starts: Mapping[str, int] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._starts = tuple((starts or {}).items())

    def build(self, variables: list[keras.Variable]) -> None:
        super().build(variables)
        self._started = _by_prefix("starts", self._starts, variables, default=0)

    def update_step(self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor) -> None:
        start = self._started[self._get_variable_index(variable)]
        if start:
            update = keras.ops.cast(self.iterations + 1, "float32")
            own = keras.ops.maximum(update - start, 1.0)
            learning_rate = learning_rate * self._bias_correction(own) / self._bias_correction(update)
        super().update_step(gradient, variable, learning_rate)

    def _kernel(self, given: dict[str, Any], index: int) -> bool:
        import tensorflow as tf

        if self.amsgrad:
            return False
        dtype = given["grad"].dtype
        first, second = tf.constant(self.beta_1, dtype), tf.constant(self.beta_2, dtype)
        update = tf.cast(self.iterations + 1, dtype)
        tf.raw_ops.ResourceApplyAdam(
            **given,
            m=_handle(self._momentums[index]),
            v=_handle(self._velocities[index]),
            beta1=first,
            beta2=second,
            beta1_power=tf.pow(first, update),
            beta2_power=tf.pow(second, update),
            epsilon=tf.constant(self.epsilon, dtype),
        )
        return True

    def _bias_correction(self, update: Tensor) -> Tensor:
        first = keras.ops.power(keras.ops.cast(self.beta_1, "float32"), update)
        second = keras.ops.power(keras.ops.cast(self.beta_2, "float32"), update)
        return keras.ops.sqrt(1.0 - second) / (1.0 - first)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "starts": dict(self._starts)}


@keras.saving.register_keras_serializable(package="kreid")
class L2SGD(_PerVariable, keras.optimizers.SGD):
    """SGD with L2 regularisation in the gradient, and rates by variable.

    Args:
        *args: of `keras.optimizers.SGD`.
        l2: coefficient, PyTorch's `weight_decay`: `l2 * variable` joins the gradient.
        rates: see `L2Adam`, which also says what `use_ema` and `gradient_accumulation_steps` do.
        **kwargs: of `keras.optimizers.SGD`.

    Raises:
        ValueError: for a negative coefficient or factor, or, when built, a path that no variable has.

    Example:

    >>> kreid.optimizers.L2SGD(0.01, momentum=0.9, l2=5e-4).l2
    0.0005
    """

    def _kernel(self, given: dict[str, Any], index: int) -> bool:
        import tensorflow as tf

        if not self.momentum:
            return False
        momentum = tf.constant(self.momentum, given["grad"].dtype)
        # Keras's momentum holds the learning rate of each step; that of ResourceApplyMomentum does not.
        tf.raw_ops.ResourceApplyKerasMomentum(
            **given, accum=_handle(self.momentums[index]), momentum=momentum, use_nesterov=self.nesterov
        )
        return True


@keras.saving.register_keras_serializable(package="kreid")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Raise a learning rate linearly from a tenth of it in the first steps, then leave it as it is.

    Args:
        rate: a number, or a Keras schedule, whose steps count from the start of the warm-up.
        steps: of the warm-up.

    Raises:
        ValueError: for less than one step.

    Example:

    >>> rate = kreid.optimizers.WarmUp(1.0, steps=9)
    >>> [round(float(rate(step)), 2) for step in (0, 1, 8, 9, 100)]
    [0.1, 0.2, 0.9, 1.0, 1.0]

    Reference: Luo et al., Bag of Tricks and a Strong Baseline for Deep Person Re-identification, 2019, section 3.1.
    """

    def __init__(self, rate: "float | keras.optimizers.schedules.LearningRateSchedule", steps: int) -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"Warming up takes at least one step. Received: steps={steps!r}")
        self.rate = rate
        self.steps = steps

    def __call__(self, step: Tensor) -> Tensor:
        """Return the learning rate of a step, counted from 0."""
        rate = self.rate(step) if callable(self.rate) else self.rate
        share = keras.ops.cast(step, "float32") / self.steps
        return rate * keras.ops.minimum(0.1 + 0.9 * share, 1.0)

    def get_config(self) -> dict[str, Any]:
        return {"rate": keras.saving.serialize_keras_object(self.rate), "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WarmUp":
        """Make a schedule from `get_config()`."""
        return cls(keras.saving.deserialize_keras_object(config["rate"]), config["steps"])
