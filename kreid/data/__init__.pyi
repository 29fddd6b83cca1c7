from .augment import Augmentation as Augmentation
from .bad_frames import (
    BadFrames as BadFrames,
    BadTracklet as BadTracklet,
    draw_bad_frames as draw_bad_frames,
)
from .cache import FrameCache as FrameCache
from .check import check_dataset as check_dataset
from .clips import (
    adjacent_clip as adjacent_clip,
    adjacent_clips as adjacent_clips,
    chunk_clip as chunk_clip,
    evenly as evenly,
    random_clip as random_clip,
)
from .damage import DamageLog as DamageLog
from .data_report import DataReport as DataReport
from .evaluation_pipeline import EvaluationPipeline as EvaluationPipeline
from .frames import decode_frame as decode_frame, decode_frames as decode_frames, read_frames as read_frames
from .pipeline import TrainingPipeline as TrainingPipeline
from .readers import (
    layout_of as layout_of,
    read_dataset as read_dataset,
    read_duke_video as read_duke_video,
    read_folder as read_folder,
    read_ilids_vid as read_ilids_vid,
    read_images as read_images,
    read_ls_vid as read_ls_vid,
    read_mars as read_mars,
    read_prid2011 as read_prid2011,
)
from .samplers import PKSampler as PKSampler, ShuffledSampler as ShuffledSampler
from .spoil import spoil as spoil
from .tracklet import DISTRACTOR as DISTRACTOR, JUNK as JUNK, ReidDataset as ReidDataset, Tracklet as Tracklet
