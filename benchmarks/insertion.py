"""Which guarantees of insertion hold on which networks: measures all and writes the second half of docs/insertion.md.

python benchmarks/insertion.py [--only PATTERN] [--out docs/insertion.md]
"""

import argparse
import time
import warnings
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from guarantee_networks import Case, networks
from guarantee_samples import (
    SAMPLE,
    WIDE,
    cases,
    compiled,
    exported,
    mechanism_starts_as_identity,
    parallel,
    quantised,
)
from guarantees import GUARANTEES, Verdict, measure

from foveate.attention import list_attention

MECHANISMS = ("se", "cbam", "nl")
PAGE = Path(__file__).parents[1] / "docs" / "insertion.md"
MARK = "<!-- measured by benchmarks/insertion.py from here on -->\n\n"
ON_A_SAMPLE = {
    "compile": ("`torch.compile(fullgraph=True)`, aot_eager: the same outputs", compiled),
    "export": ("`torch.export` with a free batch size: the same outputs at another size", exported),
    "QAT": ("`torch.ao.quantization.prepare_qat` (eager): as many layers prepared as without attention", quantised),
}


def attempt(check: Callable[[], Any]) -> Any:
    """The verdict of a check; an error is the reason why it does not hold."""
    try:
        return check()
    except Exception as error:
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"


def one_network(case: Case) -> tuple[int, float, dict[str, list[Verdict]]]:
    """Modules at its sites, the largest difference at insertion, and for each guarantee a verdict per mechanism."""
    count, worst = 0, 0.0
    verdicts: dict[str, list[Verdict]] = {name: [] for name in GUARANTEES}
    for mechanism in MECHANISMS:
        try:
            count, gap, holds = measure(case, mechanism)
            worst = max(worst, gap)
        except Exception as error:
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"
            holds = dict.fromkeys(GUARANTEES, reason)
        for name, verdict in holds.items():
            verdicts[name].append(verdict)
    return count, worst, verdicts


def mark(verdicts: list[Verdict]) -> str:
    """One sign for each mechanism, or a single one where they agree."""
    signs = ["–" if v is None else "✓" if v is True else "✗" for v in verdicts]
    applying = {sign for sign in signs if sign != "–"}
    return applying.pop() if len(applying) == 1 else "–" if not applying else "".join(signs)


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *rows]]


def failures(name: str, guarantee: str, mechanisms: tuple[str, ...], verdicts: list[Verdict]) -> list[str]:
    pairs = zip(mechanisms, verdicts, strict=True)
    return [f"* {name}, {m}, {guarantee}: {v}" for m, v in pairs if v is not None and v is not True]


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--only", default="*", help="glob over network names; samples are then left out")
    arguments.add_argument("--out", type=Path, default=PAGE)
    asked = arguments.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    started = time.monotonic()
    rows, wrong, tally = [], list[str](), dict[str, int]()
    whole = dict.fromkeys(GUARANTEES, 0)
    applies = dict.fromkeys(GUARANTEES, 0)
    for case in networks():
        if not fnmatchcase(case.name, asked.only):
            continue
        count, worst, verdicts = one_network(case)
        rows.append([case.family, f"`{case.name}`", str(count), f"{worst:.0e}" if worst else "0",
                     *(mark(found) for found in verdicts.values())])  # fmt: skip
        for guarantee, found in verdicts.items():
            wrong += failures(f"`{case.name}`", guarantee, MECHANISMS, found)
            applies[guarantee] += sum(v is not None for v in found)
            whole[guarantee] += sum(v is True for v in found)
        tally[case.family] = tally.get(case.family, 0) + 1
        print(f"{time.monotonic() - started:5.0f} s  {' '.join(rows[-1])}", flush=True)
        if sum(tally.values()) % 10 == 0:
            write(asked.out, [*introduction(tally, whole, applies), *networks_table(rows)], wrong, started)
    lines = [*introduction(tally, whole, applies), *networks_table(rows)]
    if asked.only == "*":
        lines += samples(wrong)
    write(asked.out, lines, wrong, started)


def networks_table(rows: list[list[str]]) -> list[str]:
    return table(["from", "network", "modules", "difference", *GUARANTEES], rows)


def write(page: Path, lines: list[str], wrong: list[str], started: float) -> None:
    """The page as far as it is measured; one cut short says of how many networks it speaks."""
    minutes = (time.monotonic() - started) / 60
    made_with = f"torch {torch.__version__}, timm {timm.__version__}, torchvision {torchvision.__version__}"
    end = ["", "### What does not hold", "", *(wrong or ["Nothing was found that does not."]), "",
           f"{made_with}; one CPU thread, {minutes:.0f} minutes on a shared machine."]  # fmt: skip
    written = page.read_text(encoding="utf-8") if page.is_file() else ""
    by_hand = "".join(written.partition(MARK)[:2]) if MARK in written else ""
    page.write_text(by_hand + "\n".join([*lines, *end]) + "\n", encoding="utf-8")


def introduction(tally: dict[str, int], whole: dict[str, int], applies: dict[str, int]) -> list[str]:
    """What was measured, how, and the sums."""
    found = ", ".join(f"{count} {family}" for family, count in tally.items())
    return ["## Measured on networks", "",
             "Made by `python benchmarks/insertion.py`; not edited by hand.", "",
             f"{found} networks (of {len(list(networks()))} listed) × {', '.join(MECHANISMS)}, inserted at the end of "
             "every residual branch or repeated unit "
             '(of the stages, where there are no such units) with `init="identity"`. All norms and layer scales are '
             "random, so that no branch is silent; the modes are mixed, a parameter is frozen and a hook hangs on the "
             "first layer. Copies, checkpoints and gradients are compared with the attention at half strength.", "",
             *table(["guarantee", "meaning", "holds"],
                    [[name, text, f"{whole[name]} of {applies[name]}"] for name, text in GUARANTEES.items()]),
             "", "✓ holds for all three, ✗ does not, – does not apply (not timm, not an image, or the plain network "
             "cannot either); three signs: se, cbam, nl.", ""]  # fmt: skip


def samples(wrong: list[str]) -> list[str]:
    """The guarantees that take longer, and every mechanism; what does not hold is added to `wrong`."""
    lines = ["", "### On a sample", "", *(f"* **{name}**: {text}." for name, (text, _) in ON_A_SAMPLE.items()),
             "* **DDP**: two gloo processes, half a batch each: its gradients are the whole batch's.", ""]  # fmt: skip
    distributed = attempt(partial(parallel, SAMPLE, MECHANISMS))
    rows = []
    for case in cases(SAMPLE):
        columns = {name: [attempt(partial(check, case, m)) for m in MECHANISMS]
                   for name, (_, check) in ON_A_SAMPLE.items()}  # fmt: skip
        together = distributed if isinstance(distributed, dict) else {}
        columns["DDP"] = [together.get((case.name, m), str(distributed)) for m in MECHANISMS]
        rows.append([f"`{case.name}`", *(mark(found) for found in columns.values())])
        for name, found in columns.items():
            wrong += failures(f"`{case.name}`", name, MECHANISMS, found)
        print(rows[-1], flush=True)
    lines += table(["network", *ON_A_SAMPLE, "DDP"], rows)
    lines += ["", "torch still has the eager `torch.ao.quantization`; graph-mode preparation moved to torchao, "
              "which is no dependency and was not measured.", "",
              "### Every mechanism", "", "Identity at insertion at the stages of a network of images, of signals and of"
              " clips; – where a mechanism is not made for such maps.", ""]  # fmt: skip
    rows = []
    for mechanism in list_attention():
        found = [attempt(partial(mechanism_starts_as_identity, case, mechanism)) for case in cases(WIDE)]
        rows.append([f"`{mechanism}`", *(mark([verdict]) for verdict in found)])
        wrong += failures(f"`{mechanism}`", "identity", WIDE, found)
    return [*lines, *table(["mechanism", *(f"`{name}`" for name in WIDE)], rows)]


if __name__ == "__main__":
    main()
