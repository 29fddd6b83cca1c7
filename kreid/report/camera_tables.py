"""The section of scores by pair of cameras."""

from kreid.report.html import cell, paragraph, row, table
from kreid.report.measure import Measured, percent


def camera_section(measured: Measured) -> str:
    """Make tables of rank-1 and mAP, by the camera of the query and the camera searched.

    Args:
        measured: the run's scores.

    Returns:
        HTML.
    """
    matrices = measured.cameras
    tables = []
    for name, scores in (("Rank-1", matrices.rank1), ("mAP", matrices.map)):
        rows = [
            [
                f"camera {camera}",
                *(
                    cell("-" if not count else percent(score), shade=score if count else None)
                    for score, count in zip(line, counts, strict=True)
                ),
            ]
            for camera, line, counts in zip(matrices.cameras, scores, matrices.num_queries, strict=True)
        ]
        columns = ["query from", *(f"in {camera}" for camera in matrices.cameras)]
        tables.append(table(f"{name} in per cent, by the camera searched", columns, rows))
    return row(*tables) + paragraph(
        "As in figure 7 of the MARS paper: the matches are the person's other tracklets in one camera, which may be "
        "the query's own. The person's tracklets in all other cameras are removed; all other persons stay.",
        quiet=True,
    )
