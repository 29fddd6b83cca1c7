"""The sections of bad frames, and of equal weights in place of the attention."""

from kreid.evaluation.bad_frames import LINES, OF, BadFramesResult
from kreid.evaluation.uniform_attention import UniformAttention
from kreid.report.html import cell, paragraph, table

_KINDS = {
    "none": "tracklets as they are",
    "another_person": "frames of one other person of the camera, in a run",
    "other_persons": "frames each of another person of the camera",
    "covered": "an object in most of the picture",
    "blurred": "out of focus",
    "half_out": "half of the person outside the picture",
    "dark": "5 to 20% of the light",
}


def bad_frames_section(result: BadFramesResult) -> str:
    """Make the tables of a model's scores with bad frames, one for each protocol.

    Args:
        result: a `BadFramesResult`.

    Returns:
        HTML.
    """
    body = paragraph(
        f"Queries and gallery have bad frames, as many of {OF} as the second column says, or the same share of another "
        "length; the draw is the same for every model. Average is average pooling of the model's features, with equal "
        "weights in place of its attention; oracle averages the good frames alone, which no model is told. The last "
        "column is the share of the gap between these two that the model closes, where the gap is 0.5 mAP or more."
    )
    if result.remark:
        body += paragraph(result.remark)
    most = max(one.bad for one in result.scores)
    for protocol in result.scores[0].model:
        rows = []
        for one in result.scores:
            cells = [cell(str(one.bad))]
            for line in LINES:
                scores = getattr(one, line).get(protocol)
                cells.append(
                    cell("") if scores is None else cell(_percent(scores.map), f"rank-1 {_percent(scores.cmc[1])}")
                )
            closed = one.gap_closed(protocol)
            rows.append([_KINDS[one.kind], *cells, cell("" if closed is None else f"{100 * closed:.0f}%")])
        means = [result.mean_map(line, protocol) for line in LINES]
        mean_cells = [cell("" if mean is None else _percent(mean)) for mean in means]
        rows.append([f"mean with {most} bad frames", cell(str(most)), *mean_cells, cell("")])
        columns = ["bad frames", f"of {OF}", *LINES, "gap closed"]
        body += table(f"mAP and rank-1 in per cent, protocol {protocol}", columns, rows)
    if result.switches is not None:
        body += paragraph(result.switches.text())
    return body + paragraph(f"Seed of the draws: {result.seed}.", quiet=True)


def uniform_attention_section(result: UniformAttention) -> str:
    """Make the tables of scores with equal weights, and of how unequal the model's weights are.

    Args:
        result: a `UniformAttention`.

    Returns:
        HTML.
    """
    rows = []
    for protocol in result.own:
        own, uniform = result.own[protocol], result.uniform[protocol]
        values = {"rank-1": (own.cmc[1], uniform.cmc[1]), "mAP": (own.map, uniform.map)}
        for score, (mean, low, high) in result.differences(protocol).items():
            one, other = values[score]
            interval = f"{100 * low:+.2f} to {100 * high:+.2f}"
            rows.append([f"{protocol}, {score}", _percent(one), _percent(other), cell(f"{100 * mean:+.2f}", interval)])
    body = paragraph(
        "The same model with equal weights over real frames in place of its attention. Attention that does nothing "
        "has a difference near 0, or weights near equal."
    )
    columns = ["", "attention", "equal weights", "difference"]
    body += table("Scores in per cent, and their paired difference with its 95% bootstrap interval", columns, rows)
    spreads = [
        [name, str(one.tracklets), *(f"{value:.3f}" for value in (*one.max_over_mean, *one.entropy))]
        for name, one in result.spreads.items()
    ]
    if spreads:
        ends = ("smallest", "mean", "largest")
        columns = ["", "tracklets", *(f"max/mean, {end}" for end in ends), *(f"entropy, {end}" for end in ends)]
        body += table("Weights: the largest over the mean, and the entropy over that of equal ones", columns, spreads)
    return body


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
