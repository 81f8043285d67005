"""Stored studies judged again from the scores in their summary.json, which older versions wrote as well.

    python benchmarks/judged_again.py results/cifar10_resnet8 results/finetune_resnet20 --out FOLDER

Their scores of single items were not kept, so these verdicts are about new seeds alone. Controls are part of the family
now, and a difference is judged against half a point.
"""

import argparse
import json
import tomllib
from pathlib import Path

from foveate.files import write_whole
from foveate.spec import Metric
from foveate.study.analyse import analyse
from foveate.summary import Arm, Score, Setting, Summary


def judged(folder: Path) -> tuple[dict[str, str], Summary]:
    """The stored answer, and the summary as it is made now."""
    stored = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    study = tomllib.loads((folder / "study.toml").read_text(encoding="utf-8"))
    metric = Metric(stored["metric"]["name"] if isinstance(stored["metric"], dict) else stored["metric"])
    arms, rows = [], []
    for arm in stored["arms"]:
        arms.append(Arm(arm["label"], arm["kind"], matches=tuple(arm.get("matches", ()))))
        found = arm.get("score") or arm[metric.name]
        values = zip(found["seeds"], found["values"], strict=True)
        rows += [Score(arm["label"], seed, metric.name, value) for seed, value in values]
    seeds = tuple(sorted({row.seed for row in rows}))
    controlled = any(arm.kind == "control" for arm in arms)
    setting = Setting(folder.name, study["network"], seeds, "size" if controlled else "none")
    return stored["answer"], analyse(setting, [metric], arms, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Stored studies judged again.")
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    lines = ["# Stored studies judged again", "", *(__doc__ or "").strip().splitlines()[-2:], ""]
    for folder in given.folders:
        before, now = judged(folder)
        lines += [f"## {folder.name}", "", f"Before: **{before['short']}.** {before['text']}", ""]
        lines += [f"Now: **{now.answer.short}.** {now.answer.text} {now.answer.risk}", ""]
        lines += ["| arm | difference to plain | verdict |", "|---|---|---|"]
        lines += [
            f"| {arm.label} | {arm.against_plain.text} | {arm.verdict.text} |" for arm in now.arms if arm.against_plain
        ]
        lines.append("")
    write_whole(given.out / "judged_again.md", "\n".join(lines).encode())


if __name__ == "__main__":
    main()
