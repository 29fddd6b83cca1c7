from .audit import AUDITED as AUDITED, Audit as Audit, AuditScore as AuditScore, audit as audit
from .audit_faults import Finding as Finding
from .bad_frames import (
    BadFramesResult as BadFramesResult,
    BadFramesScores as BadFramesScores,
    evaluate_bad_frames as evaluate_bad_frames,
)
from .bootstrap import (
    Interval as Interval,
    bootstrap_interval as bootstrap_interval,
    paired_bootstrap as paired_bootstrap,
    sign_flip_test as sign_flip_test,
)
from .cameras import (
    CameraMatrices as CameraMatrices,
    camera_matrices as camera_matrices,
    evaluate_cameras as evaluate_cameras,
)
from .clusters import cluster_diameters as cluster_diameters
from .identification import OpenSetResult as OpenSetResult, identify as identify
from .linking import fit_linking as fit_linking
from .model import Evaluated as Evaluated, evaluate_model as evaluate_model
from .pairs import PairDistances as PairDistances, pair_distances as pair_distances
from .rerank import (
    evaluate_reranked as evaluate_reranked,
    rerank_blocks as rerank_blocks,
    rerank_distances as rerank_distances,
    rerank_embeddings as rerank_embeddings,
)
from .rerank_gallery import RerankingGallery as RerankingGallery
from .reranking import Reranking as Reranking
from .retrieval import (
    PROTOCOLS as PROTOCOLS,
    evaluate as evaluate,
    evaluate_embeddings as evaluate_embeddings,
    evaluate_test as evaluate_test,
)
from .retrieval_result import RetrievalResult as RetrievalResult
from .spread import Spread as Spread, spread_over_splits as spread_over_splits
from .suspicious import SuspiciousTracklet as SuspiciousTracklet, suspicious_tracklets as suspicious_tracklets
from .switches import (
    Switch as Switch,
    SwitchScores as SwitchScores,
    centred_frames as centred_frames,
    find_switch as find_switch,
    switch_scores as switch_scores,
)
from .tables import (
    queries_dict as queries_dict,
    results_dict as results_dict,
    results_from_dict as results_from_dict,
    results_table as results_table,
    score_intervals as score_intervals,
)
from .uniform_attention import (
    UniformAttention as UniformAttention,
    WeightSpread as WeightSpread,
    evaluate_uniform_attention as evaluate_uniform_attention,
    weight_spreads as weight_spreads,
)
from .variances import Variances as Variances, frame_variances as frame_variances
from .verification import (
    Roc as Roc,
    VerificationRates as VerificationRates,
    equal_error_rate as equal_error_rate,
    fit_calibration as fit_calibration,
    fit_verification as fit_verification,
    rates_at as rates_at,
    roc as roc,
    threshold_at as threshold_at,
)
