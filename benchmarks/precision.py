"""How long a training step takes in bf16 and in fp32, network by network: what `Run.suiting` rests on.

    python benchmarks/precision.py

Prints seconds of a step, and those in bf16 over those in fp32: the median of rounds in which both take turns.
"""

import argparse
import statistics
import time

import torch
from torch.nn import functional as F

from nad.models.create import create
from nad.runtime import Run

NETWORKS = {  # name: pixels
    "wrn-16-1": 32,
    "torchvision:resnet18": 64,
    "torchvision:resnext50_32x4d": 64,
    "torchvision:regnet_y_400mf": 64,
    "torchvision:mobilenet_v3_small": 64,
    "torchvision:efficientnet_b0": 64,
    "torchvision:convnext_tiny": 64,
}
IMAGES, ROUNDS = 64, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    runs = [Run(device="cpu", precision="bf16"), Run(device="cpu", precision="fp32")]
    print("network, pixels: bf16 s, fp32 s a step, ratio (lowest to highest of the rounds)")
    for name, side in NETWORKS.items():
        model = create(name, 10, 0).train().to(memory_format=torch.channels_last)
        x = torch.rand(IMAGES, 3, side, side).to(memory_format=torch.channels_last)
        y = torch.arange(IMAGES) % 10

        def step(run: Run, net: torch.nn.Module = model, x: torch.Tensor = x, y: torch.Tensor = y) -> float:
            began = time.perf_counter()
            with run.fabric.autocast():
                loss = F.cross_entropy(net(x).float(), y)
            loss.backward()
            return time.perf_counter() - began

        for run in runs * 2:  # the first steps choose kernels
            step(run)
        rounds = [[step(run) for run in runs] for _ in range(ROUNDS)]
        (low, half), ratios = map(statistics.median, zip(*rounds)), sorted(a / b for a, b in rounds)
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"{name}, {side}: {low:.3f}, {half:.3f}, {spread}", flush=True)


if __name__ == "__main__":
    main()
