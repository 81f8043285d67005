"""The networks of a study's arms as ONNX or as torch.export programs: python export_arms.py STUDY FOLDER onnx|pt2."""

import json
import sys
from pathlib import Path

import torch

import foveate
from foveate.study import summarise

study, folder, form = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
folder.mkdir(parents=True, exist_ok=True)
run = next(Path(study).glob("runs/*/model.safetensors")).parent
shape = [1, *json.loads((run / "result.json").read_text())["network"]["sample"]]
names = {}
for arm in summarise(Path(study)).arms:
    if arm.score:
        model, x = foveate.load(study, arm=arm.label, seed=arm.score.seeds[0]), torch.zeros(shape)
        file = names[arm.label] = f"arm{len(names)}.{form}"
        if form == "onnx":
            torch.onnx.export(model, (x,), folder / file, dynamo=True, external_data=False)
        else:
            torch.export.save(torch.export.export(model, (x,)), folder / file)
(folder / "networks.json").write_text(json.dumps({"shape": shape, "networks": names}, ensure_ascii=False))
