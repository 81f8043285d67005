"""A study's summary → one self-contained page, figures, a table for a spreadsheet and one for the terminal.

Reads the summary and nothing else, so a report can be drawn again for ever without running anything.
"""

from foveate.report.across import across_table, critical_difference_drawing, write_across
from foveate.report.advice import advice_table, write_advice
from foveate.report.architecture import architecture_drawing
from foveate.report.beside import beside_table, write_beside
from foveate.report.costs import costs_csv, costs_picture, costs_table
from foveate.report.experiments import experiments_table, write_experiments
from foveate.report.files import picture_path, write_picture
from foveate.report.guidelines import guidelines_drawing, guidelines_table
from foveate.report.page import write_report
from foveate.report.roofline import roofline_drawing, roofline_table
from foveate.report.table import terminal_table

__all__ = [
    "across_table",
    "advice_table",
    "architecture_drawing",
    "beside_table",
    "costs_csv",
    "costs_picture",
    "costs_table",
    "critical_difference_drawing",
    "experiments_table",
    "guidelines_drawing",
    "guidelines_table",
    "picture_path",
    "roofline_drawing",
    "roofline_table",
    "terminal_table",
    "write_across",
    "write_advice",
    "write_beside",
    "write_experiments",
    "write_picture",
    "write_report",
]
