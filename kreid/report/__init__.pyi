from .choice import best_and_worst as best_and_worst, most_changed as most_changed
from .explain import explain_tracklet as explain_tracklet
from .write import write_report as write_report
