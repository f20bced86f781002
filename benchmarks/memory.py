"""Memory and time of the ideal denoiser of a set of the size of MNIST: 60,000 points of 784 dimensions."""

from __future__ import annotations

import json
import subprocess
import sys

CODE = """
import json, resource, time
import torch
import ddpm_lite as dl

torch.set_num_threads(1)
points = torch.rand(60_000, 784, generator=torch.Generator().manual_seed(0)) * 2 - 1
held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
mixture, path = dl.GaussianMixture.from_points(points), dl.VP()
x, start = path.mix(points[:64], torch.randn(64, 784), 0.5), time.process_time()
mixture.denoiser(path)(x, 0.5)
seconds = time.process_time() - start
print(json.dumps([(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) / 1024, seconds]))
"""


def rows() -> list[dict]:
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    mebibytes, seconds = json.loads(run.stdout)
    name = "ideal denoiser of 60,000 x 784 points at 64 queries"
    return [
        {"name": f"{name}: memory beyond the float32 points, MiB", "value": mebibytes, "target": 1024.0},
        {"name": f"{name}: processor seconds", "value": seconds, "target": None},
    ]
