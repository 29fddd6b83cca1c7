"""Rendered walkers: a data set in the layout of MARS without an image of a real person.

Each person has a constant appearance (build, hair, patterned clothes, bag) and walks past six cameras that differ in
colour, viewpoint, background and sharpness. `render_mars` writes the data set; `kreid synthetic ROOT` does the same.

Read the modules in this order: `people` (appearance), `walker` (motion), `cameras`, `scene` (one tracklet), `tree`
(files).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
