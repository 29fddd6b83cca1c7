from .attention import (
    attention_parts as attention_parts,
    draw_bars as draw_bars,
    draw_heat as draw_heat,
    draw_matrix as draw_matrix,
    first_component as first_component,
    heat as heat,
    heat_limits as heat_limits,
)
from .charts import bar_chart as bar_chart, line_chart as line_chart
from .embedding_map import compare_embedding_maps as compare_embedding_maps, draw_embedding_map as draw_embedding_map
from .ranked_list import RankedTracklet as RankedTracklet, draw_ranked_list as draw_ranked_list
from .strips import draw_frames as draw_frames, shown_frames as shown_frames
