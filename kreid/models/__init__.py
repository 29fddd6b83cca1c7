"""The papers' systems as Keras models: frames of tracklets in, embeddings out."""

from kreid.models.attention import Attention
from kreid.models.baseline import Baseline
from kreid.models.cost import count_macs
from kreid.models.gltr import GLTR
from kreid.models.mg_rafa import MGRAFA
from kreid.models.rtf import MultiStageFusion
from kreid.models.sta import STA
from kreid.models.tacan import TACAN
from kreid.models.tracklet_model import TrackletModel

SYSTEMS = {"baseline": Baseline, "gltr": GLTR, "mg_rafa": MGRAFA, "rtf": MultiStageFusion, "sta": STA, "tacan": TACAN}

__all__ = [
    "GLTR",
    "MGRAFA",
    "STA",
    "SYSTEMS",
    "TACAN",
    "Attention",
    "Baseline",
    "MultiStageFusion",
    "TrackletModel",
    "count_macs",
]
