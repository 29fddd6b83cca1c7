"""Evaluate embeddings: distances in, CMC and mAP out.

Names are imported on first use: importing this package imports neither NumPy nor Keras.
"""

import lazy_loader

from kreid._moved import with_moved_names

_GALLERY = ("TrackletEmbeddings", "embed_to_file", "embed_tracklets", "model_digest", "ranked_list")
_REPORT = ("best_and_worst", "explain_tracklet", "most_changed", "write_report")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__getattr__ = with_moved_names(
    __name__,
    __getattr__,
    {
        **dict.fromkeys(_GALLERY, "kreid.gallery"),
        **dict.fromkeys(_REPORT, "kreid.report"),
        "count_macs": "kreid.models.cost",
    },
)
