"""Tracklets from your own video and a tracker's output: cut into folders, or embedded without files.

`read_tracks` reads MOT Challenge text; `cut_tracklets` writes the folder layout; `embed_tracks` returns embeddings.
`kreid tracks VIDEO TRACKS --out DIR` cuts from the command line. PyAV decodes videos and is imported when a video is
opened: `pip install "kreid[video]"`. A folder of images, such as MOT Challenge's `img1`, does not need it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
