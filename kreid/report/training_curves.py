"""The section of the training: losses, held-out scores and learning rate by epoch."""

import numpy as np

from kreid.plots.charts import line_chart
from kreid.report.html import escape, paragraph, row
from kreid.runs import FinishedRun

_MOST_LINES = 6


def training_section(run: FinishedRun) -> str:
    """Draw the run's `log.csv`, phase by phase.

    Args:
        run: the run.

    Returns:
        HTML.
    """
    logs = run.logs()
    if not logs:
        return paragraph("The run has no log.csv.")
    body = ""
    for phase, columns in logs.items():
        if len(logs) > 1:
            body += f"<h3>{'Last phase' if phase == 'main' else f'Phase {escape(phase)}'}</h3>"
        groups = {
            "loss": {name: values for name, values in columns.items() if name.endswith("loss")},
            "held-out score, %": {
                name.removeprefix("holdout_"): 100 * values for name, values in columns.items() if "holdout" in name
            },
            "learning rate": {name: values for name, values in columns.items() if name == "learning_rate"},
        }
        charts = (_chart(label, columns["epoch"], lines) for label, lines in groups.items())
        body += row(*(chart for chart in charts if chart))
    return body


def _chart(label: str, epochs: np.ndarray, lines: dict[str, np.ndarray]) -> str:
    lines = {name: values for name, values in lines.items() if np.isfinite(values).any()}
    if not lines:
        return ""
    last = ", ".join(f"{name} {values[np.isfinite(values)][-1]:.3g}" for name, values in lines.items())
    limits = None
    if label.endswith("%"):
        # Tens around all values, at most 100%.
        finite = np.concatenate([values[np.isfinite(values)] for values in lines.values()])
        low = min(90.0, 10 * np.floor(finite.min() / 10))
        limits = low, max(low + 10, 10 * np.ceil(finite.max() / 10))
    # MG-RAFA has a loss for each head: the sum and the first heads are drawn.
    drawn = sorted(lines.items(), key=lambda item: item[0] != "loss")[:_MOST_LINES]
    return line_chart(
        {name: (epochs, values) for name, values in drawn},
        x_label="epoch",
        y_label=label,
        description=f"{label} by epoch; at the end {last}",
        size=(340, 240),
        y_limits=limits,
    )
