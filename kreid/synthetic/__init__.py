"""Walkers rendered on the spot: a MARS tree without a picture of a real person.

People have lasting looks (build, hair, clothes with patterns, bags) and are seen by six cameras that differ in colour,
viewpoint, background and sharpness. `render_mars` writes the tree; `kreid synthetic ROOT` does the same.

A reader goes from `people` (who) to `walker` (how they move), `cameras` (what records them), `scene` (one tracklet) and
`tree` (the files).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
