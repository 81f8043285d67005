"""Writes the figures of docs/when_not.md from results/moderators/summary.json.

python docs/make_when_not.py
"""

import json
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
PAGE, FOUND = DOCS / "when_not.md", DOCS.parent / "results" / "moderators" / "summary.json"
BEGIN, END = "<!-- figures of results/moderators -->\n", "<!-- end of the figures -->\n"


def page_with_figures(page: str, found: dict[str, Any]) -> str:
    """The page with its figures made anew."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}{figures(found)}{END}{rest.partition(END)[2]}"


def figures(found: dict[str, Any]) -> str:
    """A row for each cell, the plain network's best last, and a sentence for each variant."""
    labels = [one["label"] for one in found["moderation"]]
    cells = []
    for name, summary in found["datasets"].items():
        arms = {arm["label"]: arm for arm in summary["arms"]}
        gains = [f"{arms[label]['against_plain']['text']}, {arms[label]['verdict']['word']}" for label in labels]
        cells.append((arms[summary["plain"]]["score"]["mean"], name, gains))
    head = ["cell", "plain, %", *(f"{label} to plain, points" for label in labels)]
    lines = [head, ["---"] * len(head)]
    lines += [[name, f"{100 * base:.1f}", *gains] for base, name, gains in sorted(cells)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    texts = [f"{one['text'][0].upper()}{one['text'][1:]}." for one in found["moderation"]]
    return f"\n{table}\n" + "\n\n".join(texts) + "\n\n"


if __name__ == "__main__":
    text = page_with_figures(PAGE.read_text(encoding="utf-8"), json.loads(FOUND.read_text(encoding="utf-8")))
    PAGE.write_text(text, encoding="utf-8")
