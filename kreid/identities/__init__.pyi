from .decisions import AcceptedPersons as AcceptedPersons, write_accepted as write_accepted
from .embedder import load_embedder as load_embedder
from .linking import Identities as Identities, Link as Link, link_tracklets as link_tracklets
from .review import review_page as review_page
from .scores import (
    IdentityScores as IdentityScores,
    PairScores as PairScores,
    assigned_scores as assigned_scores,
    identity_scores as identity_scores,
    pair_scores as pair_scores,
    score_tracks as score_tracks,
)
from .sightings import CameraVideo as CameraVideo, Sightings as Sightings, embed_cameras as embed_cameras
from .write import write_identities as write_identities
