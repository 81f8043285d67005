"""Controls: networks that cost what a variant costs, or are a placebo of it. Chosen, matched in cost, built."""

from foveate.study.controls.build import as_control
from foveate.study.controls.choose import Chosen, choose_controls

__all__ = ["Chosen", "as_control", "choose_controls"]
