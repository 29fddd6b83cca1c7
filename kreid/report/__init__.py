"""Pages about runs: scores, ranked lists, attention and curves in one HTML file.

Names are read on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
