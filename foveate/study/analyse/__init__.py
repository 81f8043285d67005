"""What a study's rows say: differences to the plain network, paired by seed, with intervals, costs and a verdict.

Typed rows in, one `foveate.summary.Summary` out; nothing is run or written, and only files of item scores are read.
"""

from foveate.study.analyse.datasets import across, not_ranked
from foveate.study.analyse.inference import holm
from foveate.study.analyse.intervals import paired, t_interval
from foveate.study.analyse.planner import what_seeds_can_show
from foveate.study.analyse.sign_flip import sign_flip_p
from foveate.study.analyse.stopping import decided, next_look
from foveate.study.analyse.summary import analyse

__all__ = [
    "across",
    "analyse",
    "decided",
    "holm",
    "next_look",
    "not_ranked",
    "paired",
    "sign_flip_p",
    "t_interval",
    "what_seeds_can_show",
]
