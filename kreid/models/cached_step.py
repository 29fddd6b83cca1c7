"""A training step that embeds its batch in chunks, with the gradients of the whole batch.

The chunks are embedded without gradients; the losses of the whole batch give the gradient of each vector; then the
chunks are embedded again, one by one, with the same random numbers, and each passes the gradients of its vectors to the
weights. Memory grows with the vectors of the batch and the activations of one chunk.

Reference: Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup (GradCache), 2021,
section 3.2.
"""

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from kreid.layers.centred_pooling import CentredPooling

if TYPE_CHECKING:
    from kreid.models.tracklet_model import TrackletModel


def step_of_tensorflow(model: "TrackletModel", data: Any) -> Any:
    """Run `keras.Model.train_step` on TensorFlow in `model.cached_chunks` chunks; see the module."""
    import tensorflow as tf

    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    encoder, head = _halves(model)
    parts, count = _parts(model, x), model.cached_chunks
    weights = [variable.value for variable in encoder.trainable_variables]
    seeds = _seeds(encoder)
    start = [tf.identity(seed.value) for seed in seeds]

    def encode(number):
        vectors = encoder({name: values[number] for name, values in parts.items()}, training=True)
        return vectors, _sum(encoder.losses)

    spec = tf.TensorSpec((None, *encoder.outputs[0].shape[1:]), encoder.outputs[0].dtype)
    vectors, added = tf.map_fn(
        encode, tf.range(count), fn_output_signature=(spec, tf.TensorSpec((), tf.float32)), parallel_iterations=1
    )
    # The layers must forget tensors of the loop.
    encoder._clear_losses()
    with tf.GradientTape() as tape:
        tape.watch(vectors)
        outputs = head(_joined(vectors), training=True)
        loss = model.compute_loss(x=x, y=y, y_pred=outputs, sample_weight=sample_weight, training=True)
        loss += tf.reduce_mean(added)
        scaled = model.optimizer.scale_loss(loss)
    model._loss_tracker.update_state(loss, sample_weight=tf.shape(y[next(iter(y))])[0])
    head_weights = [variable.value for variable in head.trainable_variables]
    of_vectors, *of_head = tape.gradient(scaled, [vectors, *head_weights], unconnected_gradients="zero")

    # The same random numbers as before.
    for seed, value in zip(seeds, start, strict=True):
        seed.assign(value)
    share = model.optimizer.scale_loss(tf.constant(1.0 / count))

    def add(number, sums):
        with tf.GradientTape() as tape:
            vectors, added = encode(number)
            objective = tf.reduce_sum(vectors * of_vectors[number]) + tf.cast(share * added, vectors.dtype)
        gradients = tape.gradient(objective, weights, unconnected_gradients="zero")
        return number + 1, [total + gradient for total, gradient in zip(sums, gradients, strict=True)]

    zeros = [tf.zeros_like(weight) for weight in weights]
    _, of_encoder = tf.while_loop(lambda number, _: number < count, add, (0, zeros), parallel_iterations=1)
    encoder._clear_losses()
    gradients = _total((encoder.trainable_variables, of_encoder), (head.trainable_variables, of_head))
    own = model.trainable_variables
    model.optimizer.apply_gradients([(gradients[id(variable)], variable) for variable in own])
    return model.compute_metrics(x, y, outputs, sample_weight=sample_weight)


def step_of_jax(model: "TrackletModel", state: Any, data: Any) -> Any:
    """Run `keras.Model.train_step` on JAX in `model.cached_chunks` chunks; see the module."""
    import jax

    trainable, non_trainable, optimizer_variables, metrics_variables = state
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    encoder, head = _halves(model)
    parts, count = _parts(model, x), model.cached_chunks
    seeds = _seeds(encoder)
    others = dict(zip(map(id, model.non_trainable_variables), non_trainable, strict=True))

    def run(graph, inputs, trainable, changed):
        values = {**others, **changed}
        mapping = list(zip(model.trainable_variables, trainable, strict=True))
        mapping += [(variable, values[id(variable)]) for variable in model.non_trainable_variables]
        with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
            outputs = graph(inputs, training=True)
        found = {id(variable): scope.get_current_value(variable) for variable in model.non_trainable_variables}
        return outputs, _sum(scope.losses), {key: values[key] if v is None else v for key, v in found.items()}

    def encode(trainable, states, part):
        changed = dict(zip(map(id, seeds), states, strict=True))
        vectors, added, after = run(encoder, part, trainable, changed)
        return vectors, added, [after[id(seed)] for seed in seeds]

    def embed(states, part):
        vectors, added, states = encode(trainable, states, part)
        return states, (vectors, added)

    start = [others[id(seed)] for seed in seeds]
    after, (vectors, added) = jax.lax.scan(embed, start, parts)

    def scale(loss):
        with keras.StatelessScope(list(zip(model.optimizer.variables, optimizer_variables, strict=True))):
            return model.optimizer.scale_loss(loss)

    def whole(vectors, trainable):
        outputs, _, found = run(head, _joined(vectors), trainable, {})
        others_after = [found[id(variable)] for variable in model.non_trainable_variables]
        loss, (_, others_after, metrics) = model.stateless_compute_loss(
            trainable, others_after, metrics_variables, x=x, y=y, y_pred=outputs, sample_weight=sample_weight
        )
        loss = loss + ops.mean(added)
        return scale(loss), (loss, outputs, others_after, metrics)

    (_, aux), (of_vectors, of_head) = jax.value_and_grad(whole, argnums=(0, 1), has_aux=True)(vectors, trainable)
    loss, outputs, non_trainable, metrics_variables = aux
    share = scale(ops.convert_to_tensor(1.0 / count))

    def objective(trainable, states, part, gradient):
        vectors, added, states = encode(trainable, states, part)
        return ops.sum(ops.cast(vectors, "float32") * ops.cast(gradient, "float32")) + share * added, states

    def add(carry, inputs):
        sums, states = carry
        gradients, states = jax.grad(objective, has_aux=True)(trainable, states, *inputs)
        return ([total + gradient for total, gradient in zip(sums, gradients, strict=True)], states), None

    (gradients, _), _ = jax.lax.scan(add, (of_head, start), (parts, of_vectors))
    advanced = dict(zip(map(id, seeds), after, strict=True))
    pairs = zip(model.non_trainable_variables, non_trainable, strict=True)
    non_trainable = [advanced.get(id(variable), value) for variable, value in pairs]
    trainable, optimizer_variables = model.optimizer.stateless_apply(optimizer_variables, gradients, trainable)
    logs, metrics_variables = model._update_metrics_variables(metrics_variables, loss, x, y, outputs, sample_weight)
    return logs, (trainable, non_trainable, optimizer_variables, metrics_variables)


def _halves(model: "TrackletModel") -> tuple[keras.Model, keras.Model]:
    """Return the models from frames to vectors, and from vectors to the outputs.

    Raises:
        ValueError: if batch normalisation, or the mean of a pooling, trains before the vectors: it would see a chunk
            alone.
    """
    encoder, head = model.vector_halves()
    trained = [
        layer.path
        for layer in encoder._flatten_layers()
        if isinstance(layer, (keras.layers.BatchNormalization, CentredPooling)) and layer.trainable
    ]
    if trained:
        raise ValueError(
            "Chunks embed as the whole batch only if batch normalisation is frozen; set freeze_batch_norm=true, or "
            "cached_chunks=1 for a system with batch normalisation after its backbone. "
            f"Received: cached_chunks={model.cached_chunks!r}, {len(trained)} layers that train, such as {trained[0]!r}"
        )
    return encoder, head


def _parts(model: "TrackletModel", x: Any) -> dict[str, Any]:
    size, count = x["frames"].shape[0], model.cached_chunks
    if size is None or size % count:
        raise ValueError(
            f"Chunks are equal parts of a batch of fixed size; choose a divisor of {size}. "
            f"Received: cached_chunks={count!r}"
        )
    return {name: ops.reshape(values, (count, size // count, *values.shape[1:])) for name, values in x.items()}


def _joined(vectors: Any) -> Any:
    return ops.reshape(vectors, (-1, *vectors.shape[2:]))


def _sum(losses: Any) -> Any:
    return sum((ops.cast(loss, "float32") for loss in losses), ops.zeros((), "float32"))


def _seeds(encoder: keras.Model) -> list[Any]:
    return [variable for variable in encoder.non_trainable_variables if variable.path.endswith("seed_generator_state")]


def _total(*groups: tuple[list[Any], list[Any]]) -> dict[int, Any]:
    """Return the sum of the gradients of each variable, by its id."""
    total: dict[int, Any] = {}
    for variables, gradients in groups:
        for variable, gradient in zip(variables, gradients, strict=True):
            total[id(variable)] = total[id(variable)] + gradient if id(variable) in total else gradient
    return total
