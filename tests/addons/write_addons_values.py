"""Write `addons_values.json`: values and gradients of TensorFlow Addons' own functions, on the batch of `addons_cases`.

    pip install "kreid[addons]"
    python tests/addons/write_addons_values.py

TensorFlow Addons is called as its documentation says, in Keras 2's mode, without the classes of the bridge. The fast
tests compare kreid's losses with this file, and need no TensorFlow Addons.
"""

import json

import kreid

addons = kreid.addons.full()

import tensorflow as tf  # noqa: E402
from addons_cases import CASES, LABELS, VALUES, embeddings  # noqa: E402


def pairs():
    """Return the positions of the first and the second embedding of each identity."""
    found = {label: [i for i, other in enumerate(LABELS) if other == label] for label in sorted(set(LABELS))}
    return [places[0] for places in found.values()], [places[1] for places in found.values()]


def value(name, settings, x):
    """Return the loss of TensorFlow Addons, called as its documentation says."""
    if name == "NpairsLoss":
        first, second = pairs()
        similarity = tf.matmul(tf.gather(x, first), tf.gather(x, second), transpose_b=True)
        return addons.losses.npairs_loss(tf.gather(LABELS, first), similarity)
    if name == "ContrastiveLoss":
        i, j = zip(*((i, j) for i in range(len(LABELS)) for j in range(i)), strict=True)
        distances = tf.norm(tf.gather(x, i) - tf.gather(x, j), axis=1)
        same = tf.cast(tf.gather(LABELS, i) == tf.gather(LABELS, j), "float32")
        return tf.reduce_mean(addons.losses.contrastive_loss(same, distances, **settings))
    function = {
        "TripletSemiHardLoss": addons.losses.triplet_semihard_loss,
        "TripletHardLoss": addons.losses.triplet_hard_loss,
        "LiftedStructLoss": addons.losses.lifted_struct_loss,
    }[name]
    return function(LABELS, x, **settings)


def main():
    """Write the file."""
    cases = {}
    for case, (name, settings, _, _) in CASES.items():
        x = tf.Variable(embeddings())
        with tf.GradientTape() as tape:
            loss = value(name, settings, x)
        gradient = tf.convert_to_tensor(tape.gradient(loss, x)).numpy()
        cases[case] = {"value": float(loss), "gradient": [[round(float(one), 7) for one in row] for row in gradient]}
    record = {"versions": {"tensorflow-addons": addons.__version__, "tensorflow": tf.__version__}, "cases": cases}
    VALUES.write_text(json.dumps(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
