"""Write the report of a run: scores, ranked lists, attention and curves in one HTML file.

Names are imported on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
