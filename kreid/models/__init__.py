"""The papers' systems as Keras models: frames of tracklets in, embeddings out."""

# kreid's systems register themselves, in this order.
from kreid.fingerprint import fingerprint
from kreid.models.attention import Attention
from kreid.models.baseline import Baseline
from kreid.models.cost import count_macs
from kreid.models.gltr import GLTR
from kreid.models.mg_rafa import MGRAFA
from kreid.models.online import OnlineTracklet, OnlineTracklets
from kreid.models.rtf import RTF
from kreid.models.sta import STA
from kreid.models.systems import SYSTEMS, register_system, system_class
from kreid.models.tacan import TACAN
from kreid.models.tracklet_model import TrackletModel
from kreid.models.uniform_attention import with_uniform_attention
from kreid.passport import Passport

__all__ = [
    "GLTR",
    "MGRAFA",
    "RTF",
    "STA",
    "SYSTEMS",
    "TACAN",
    "Attention",
    "Baseline",
    "OnlineTracklet",
    "OnlineTracklets",
    "Passport",
    "TrackletModel",
    "count_macs",
    "fingerprint",
    "register_system",
    "system_class",
    "with_uniform_attention",
]
