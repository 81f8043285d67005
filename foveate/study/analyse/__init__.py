"""What a study's rows say: differences to the plain network, paired by seed, with intervals, costs and a verdict.

Plain rows in, one plain dict out that `json.dumps(..., allow_nan=False)` takes; nothing is run, read or written.
"""

from foveate.study.analyse.intervals import holm, paired, sign_flip_p, t_interval
from foveate.study.analyse.planner import what_seeds_can_show
from foveate.study.analyse.summary import analyse

__all__ = ["analyse", "holm", "paired", "sign_flip_p", "t_interval", "what_seeds_can_show"]
