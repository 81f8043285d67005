"""Time exported networks where they are to run: python measure_elsewhere.py FOLDER MACHINE OUT.json [THREADS].

FOLDER has networks as export_arms.py writes them, *.onnx for onnxruntime or *.pt2 for torch, and networks.json with
their names and shape. Needs Python, numpy and one of the two; nothing of foveate. The networks are timed in turns.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np


def opened(path, x, threads):
    """What runs the network in path.onnx or path.pt2 on x, and the runtime's name."""
    if path.with_suffix(".onnx").is_file():
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        session = ort.InferenceSession(path.with_suffix(".onnx"), options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, {session.get_inputs()[0].name: x}), f"onnxruntime {ort.__version__}"
    import torch

    torch.set_num_threads(threads)
    model, tensor = torch.export.load(path.with_suffix(".pt2")).module(), torch.from_numpy(x)
    return lambda: model(tensor), f"torch {torch.__version__}"


folder, machine, out, threads = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int((*sys.argv, 1)[4])
listed = json.loads((folder / "networks.json").read_text())
x = np.random.default_rng(0).standard_normal(listed["shape"]).astype(np.float32)
calls = {name: opened(folder / stem, x, threads) for name, stem in listed["networks"].items()}
taken = {name: [] for name in calls}
for turn in range(110):
    for name, (call, _) in calls.items():
        start = time.perf_counter()
        call()
        if turn >= 10:  # the first warm up
            taken[name].append(1000 * (time.perf_counter() - start))
rows = {}
for name, times in taken.items():  # of 100 sorted times the 40th and the 61st enclose the median in 95 % of cases
    times.sort()
    rows[name] = {"median": float(np.median(times)), "low": times[39], "high": times[60]}
facts = {"machine": machine, "runtime": next(iter(calls.values()))[1], "threads": threads, "batch_size": x.shape[0]}
Path(out).write_text(json.dumps({"kind": "foveate measurements", **facts, "networks": rows}, indent=1))
