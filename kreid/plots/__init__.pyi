from .attention import draw_frames as draw_frames, draw_heat as draw_heat, draw_matrix as draw_matrix, heat as heat
from .charts import bar_chart as bar_chart, line_chart as line_chart
from .embedding_map import draw_embedding_map as draw_embedding_map
from .ranked_list import RankedTracklet as RankedTracklet, draw_ranked_list as draw_ranked_list
