"""Time exported networks where they are to run: python measure_elsewhere.py FOLDER MACHINE OUT.json [THREADS].

FOLDER is from export_arms.py. Needs Python, numpy and onnxruntime, or torch for *.pt2; nothing of foveate.
"""

import json
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

folder, machine, out, threads = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int((*sys.argv, 1)[4])
listed = json.loads((folder / "networks.json").read_text())
x = np.random.default_rng(0).standard_normal(listed["shape"]).astype(np.float32)
passes, rows = {}, {}
for name, file in listed["networks"].items():
    if file.endswith(".onnx"):
        import onnxruntime as runtime

        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        session = runtime.InferenceSession(folder / file, options, providers=["CPUExecutionProvider"])
        passes[name] = partial(session.run, None, {session.get_inputs()[0].name: x})
    else:
        import torch as runtime

        runtime.set_num_threads(threads)
        passes[name] = partial(runtime.export.load(folder / file).module(), runtime.from_numpy(x))
ms = {name: [] for name in passes}
for name in list(passes) * 110:  # in turns, so that what slows the machine slows all
    start = time.perf_counter()
    passes[name]()
    ms[name].append(1000 * (time.perf_counter() - start))
for name, taken in ms.items():
    kept = np.array(taken[10:])  # the first warm up
    quarters = [np.median(part) for part in np.split(kept, 4)]
    low, high = np.sort(kept)[[39, 60]]  # of 100 they enclose the median in 95 % of cases
    rows[name] = {"median": np.median(kept), "low": min(low, *quarters), "high": max(high, *quarters)}
    if max(quarters) > 1.1 * min(quarters):
        print(f"{name}: {min(quarters):.3g} to {max(quarters):.3g} ms by quarters of the time; is the machine busy?")
facts = {"machine": machine, "runtime": f"{runtime.__name__} {runtime.__version__}", "threads": threads}
measured = {"kind": "foveate measurements", **facts, "batch_size": len(x), "networks": rows}
Path(out).write_text(json.dumps(measured, indent=1))
