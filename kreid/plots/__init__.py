"""Pictures of results. Pillow alone; neither Keras nor TensorFlow is imported."""

from kreid._lazy import attach

_HOMES = {"RankedTracklet": "ranked_list", "draw_ranked_list": "ranked_list"}

__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
