"""Losses written again as plain loops in float64."""

import numpy as np


def triplet_values(labels, x, margin, squared=False):
    """Returns one value per anchor, NaN where there is no positive or no negative."""
    x = np.asarray(x, np.float64)
    values = []
    for a in range(len(x)):
        positive, negative = [], []
        for other in range(len(x)):
            distance = sum((x[a, c] - x[other, c]) ** 2 for c in range(x.shape[1]))
            distance = distance if squared else distance**0.5
            if labels[a] != labels[other]:
                negative.append(distance)
            elif a != other:
                positive.append(distance)
        if not positive or not negative:
            values.append(np.nan)
            continue
        violation = max(positive) - min(negative)
        values.append(np.log1p(np.exp(violation)) if margin == "soft" else max(0.0, margin + violation))
    return np.array(values)


def min_max_value(labels, x):
    """Returns equation 9 of TACAN, from equations 7 and 8."""
    x = np.asarray(x, np.float64)
    overall = x.mean(axis=0)
    within = between = 0.0
    for k in sorted(set(labels)):
        members = [f for f, label in zip(x, labels, strict=True) if label == k]
        mean = sum(members) / len(members)
        within += sum((f - mean) @ (f - mean) for f in members)
        between += len(members) * (mean - overall) @ (mean - overall)
    return within / between


def smoothed_values(labels, logits, smoothing):
    """Returns one cross-entropy per row."""
    logits = np.asarray(logits, np.float64)
    values = []
    for label, row in zip(labels, logits, strict=True):
        probabilities = np.exp(row - row.max())
        probabilities /= probabilities.sum()
        target = [(1 - smoothing) * (k == label) + smoothing / len(row) for k in range(len(row))]
        values.append(-sum(t * np.log(p) for t, p in zip(target, probabilities, strict=True)))
    return np.array(values)


def numeric_gradient(function, x, step=1e-5):
    """Returns central differences of a function of a float64 array."""
    x = np.array(x, np.float64)
    gradient = np.zeros_like(x)
    for position in np.ndindex(*x.shape):
        kept = x[position]
        x[position] = kept + step
        above = function(x)
        x[position] = kept - step
        gradient[position] = (above - function(x)) / (2 * step)
        x[position] = kept
    return gradient
