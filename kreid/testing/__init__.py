"""Functions that check the contracts of kreid's parts, and of your own layers, losses, pipelines and exports."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
