"""Pictures of results, without Keras or TensorFlow. Pillow draws; embedding maps need the extra `plots`."""

from kreid._lazy import attach

_HOMES = {
    "RankedTracklet": "ranked_list",
    "bar_chart": "charts",
    "draw_embedding_map": "embedding_map",
    "draw_frames": "attention",
    "draw_heat": "attention",
    "draw_matrix": "attention",
    "draw_ranked_list": "ranked_list",
    "heat": "attention",
    "line_chart": "charts",
}

__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
