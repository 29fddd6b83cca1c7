"""Tracklets from one's own video and what a tracker made of it: cut into folders, or embedded without files.

`read_tracks` reads MOT Challenge text; `cut_tracklets` writes the folder layout, `embed_tracks` gives embeddings.
`python -m kreid.tracks VIDEO TRACKS --out DIR` cuts from the command line. Videos are decoded by PyAV, which is
imported when a video is opened: `pip install "kreid[video]"`.
"""

from kreid.tracks.cuts import TrackLimits
from kreid.tracks.embedding import embed_tracks
from kreid.tracks.folders import CutTracklets, cut_tracklets
from kreid.tracks.mot import Tracks, read_tracks

__all__ = ["CutTracklets", "TrackLimits", "Tracks", "cut_tracklets", "embed_tracks", "read_tracks"]
