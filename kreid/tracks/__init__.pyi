from .cuts import TrackLimits as TrackLimits
from .embedding import embed_tracks as embed_tracks
from .folders import CutTracklets as CutTracklets, cut_tracklets as cut_tracklets
from .mot import Tracks as Tracks, read_tracks as read_tracks, write_tracks as write_tracks
from .trackers import (
    from_boxmot as from_boxmot,
    from_supervision as from_supervision,
    from_ultralytics as from_ultralytics,
)
