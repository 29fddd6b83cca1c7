"""Walkers rendered on the spot: a MARS tree with nobody's picture in it.

People have lasting looks (build, hair, clothes with patterns, bags) and are seen by six cameras that differ in colour,
viewpoint, background and sharpness. `render_mars` writes the tree; `python -m kreid.synthetic ROOT` does the same.

A reader goes from `people` (who) to `walker` (how they move), `cameras` (what records them), `scene` (one tracklet) and
`tree` (the files).
"""

from kreid.synthetic.tree import SyntheticConfig, render_mars

__all__ = ["SyntheticConfig", "render_mars"]
