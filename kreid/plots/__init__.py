"""Pictures of results, without Keras or TensorFlow. Pillow draws; embedding maps need the extra `plots`."""

from kreid._lazy import attach

_HOMES = {
    "RankedTracklet": "ranked_list",
    "draw_embedding_map": "embedding_map",
    "draw_ranked_list": "ranked_list",
}

__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
