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


def distance_loops(x, distance):
    """Returns all distances, by loops over the features; minus the inner products for "dot". Zeros have no angle."""
    x = np.asarray(x, np.float64)
    found = np.zeros((len(x), len(x)))
    for a, b in np.ndindex(found.shape):
        dot, own, others = (sum(x[p, c] * x[q, c] for c in range(x.shape[1])) for p, q in ((a, b), (a, a), (b, b)))
        if distance == "dot":
            found[a, b] = -dot
        elif distance == "cosine":
            found[a, b] = 1 - dot / (own * others) ** 0.5 if own * others else 1
        else:
            squared = sum((x[a, c] - x[b, c]) ** 2 for c in range(x.shape[1]))
            found[a, b] = squared if distance == "squared_euclidean" else squared**0.5
    return found


def pair_lists(labels, anchor):
    """Returns the positives and the negatives of an anchor, by number."""
    others = [other for other in range(len(labels)) if other != anchor]
    return [o for o in others if labels[o] == labels[anchor]], [o for o in others if labels[o] != labels[anchor]]


def hardest(d, positives, negatives):
    """Returns the farthest positive and the nearest negative."""
    return [max(positives, key=lambda p: d[p])], [min(negatives, key=lambda n: d[n])]


def semi_hard_terms(labels, x, margin, distance):
    """Returns the terms of each anchor, a list each: none where there is no positive or no negative."""
    distances, found = distance_loops(x, distance), []
    for a, d in enumerate(distances):
        positives, negatives = pair_lists(labels, a)
        terms = []
        for p in positives if negatives else []:
            farther = [d[n] for n in negatives if d[n] > d[p]]
            violation = d[p] - (min(farther) if farther else max(d[n] for n in negatives))
            terms.append(np.log1p(np.exp(violation)) if margin == "soft" else max(0.0, margin + violation))
        found.append(terms)
    return found


def contrastive_terms(labels, x, margin, distance, miner):
    """Returns one term per anchor, the mean over its pairs."""
    distances, found = distance_loops(x, distance), []
    for a, d in enumerate(distances):
        positives, negatives = pair_lists(labels, a)
        if miner == "hard":
            positives = positives and [max(positives, key=lambda p: d[p])]
            negatives = negatives and [min(negatives, key=lambda n: d[n])]
        pairs = [d[p] ** 2 / 2 for p in positives] + [max(0.0, margin - d[n]) ** 2 / 2 for n in negatives]
        found.append([sum(pairs) / len(pairs)] if pairs else [])
    return found


def lifted_terms(labels, x, margin, distance):
    """Returns the terms of each anchor."""
    d, found = distance_loops(x, distance), []
    for i in range(len(labels)):
        positives, negatives = pair_lists(labels, i)
        terms = []
        for j in positives if negatives else []:
            sums = sum(np.exp(margin - d[i, k]) for k in negatives)
            sums += sum(np.exp(margin - d[j, k]) for k in pair_lists(labels, j)[1])
            terms.append(max(0.0, np.log(sums) + d[i, j]) ** 2 / 2)
        found.append(terms)
    return found


def n_pairs_terms(labels, x, distance, miner):
    """Returns the terms of each anchor."""
    distances, found = distance_loops(x, distance), []
    firsts, seconds = [list(labels).index(label) for label in labels], []
    for number, label in enumerate(labels):
        if list(labels[:number]).count(label) == 1:
            seconds.append(number)
    for a, d in enumerate(distances):
        positives, negatives = pair_lists(labels, a)
        if miner == "one":
            positives = [p for p in positives if p in seconds and a in firsts]
            negatives = [n for n in negatives if n in seconds and a in firsts]
        terms = [np.log(1 + sum(np.exp(d[p] - d[n]) for n in negatives)) for p in positives]
        found.append(terms if negatives else [])
    return found


def multi_similarity_terms(labels, x, alpha, beta, base, distance, miner, epsilon):
    """Returns one term per anchor with a positive and a negative."""
    distances, found = distance_loops(x, distance), []
    for a, d in enumerate(distances):
        positives, negatives = pair_lists(labels, a)
        if not positives or not negatives:
            found.append([])
            continue
        s = 1 - d if distance == "cosine" else -d
        if miner == "hard":
            positives, negatives = hardest(d, positives, negatives)
        if miner == "informative":
            least, most = min(s[p] for p in positives), max(s[n] for n in negatives)
            positives = [p for p in positives if s[p] < most + epsilon]
            negatives = [n for n in negatives if s[n] > least - epsilon]
        pulled = np.log(1 + sum(np.exp(-alpha * (s[p] - base)) for p in positives)) / alpha
        found.append([pulled + np.log(1 + sum(np.exp(beta * (s[n] - base)) for n in negatives)) / beta])
    return found


def circle_terms(labels, x, margin, scale, miner, weights_at=None):
    """Returns one term per anchor with a positive and a negative; weights are those of `weights_at`, or of `x`."""
    distances, found = distance_loops(x, "cosine"), []
    constant = distances if weights_at is None else distance_loops(weights_at, "cosine")
    for a, d in enumerate(distances):
        positives, negatives = pair_lists(labels, a)
        if not positives or not negatives:
            found.append([])
            continue
        if miner == "hard":
            positives, negatives = hardest(d, positives, negatives)
        s, c = 1 - d, 1 - constant[a]
        pulled = sum(np.exp(-scale * max(0, 1 + margin - c[p]) * (s[p] - (1 - margin))) for p in positives)
        pushed = sum(np.exp(scale * max(0, c[n] + margin) * (s[n] - margin)) for n in negatives)
        found.append([np.log(1 + pushed * pulled)])
    return found


def mean_of_terms(found):
    """Returns the mean over all terms."""
    return np.mean([term for terms in found for term in terms])


def values_of_terms(found):
    """Returns the mean of each anchor's terms, 0 for an anchor without."""
    return np.array([np.mean(terms) if terms else 0.0 for terms in found])
