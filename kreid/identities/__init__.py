"""Find the same person across cameras: link tracklets into persons, review the links, and score them.

`link_tracklets` links embeddings; `kreid identify` does so from videos and a tracker's output, writes a page to review
the persons, and turns the reviewed persons into a data set. Names are imported on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
