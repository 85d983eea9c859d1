"""Trains LeNet-5 with PyTorch on MNIST and writes it as ONNX: how a network from PyTorch comes to mip2mcu.

    pip install torch onnx                                  (the CPU build is enough: it takes a minute or two)
    python examples/lenet/train.py mnist_train.npz lenet5.onnx

The NPZ holds X (rows, 784), uint8, and y. Pixels are divided by 255 outside of the network, so mip2mcu is told so:

    mip2mcu prune lenet5.onnx --data mnist_train.npz --input-scale 1/255 --keep 80% --out lenet.json
"""

import sys

import numpy as np
import torch
from torch import nn

EPOCHS, BATCH, RATE = 4, 64, 2e-3


def lenet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def main(data: str, out: str) -> None:
    torch.manual_seed(0)
    with np.load(data) as arrays:
        images = torch.tensor(arrays["X"].reshape(-1, 1, 28, 28), dtype=torch.float32) / 255
        labels = torch.tensor(arrays["y"].astype(np.int64))
    network = lenet()
    optimiser = torch.optim.Adam(network.parameters(), RATE)
    steps = EPOCHS * -(-len(images) // BATCH)
    falling = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.02, steps)
    for epoch in range(EPOCHS):
        for rows in torch.randperm(len(images)).split(BATCH):
            loss = nn.functional.cross_entropy(network(images[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            falling.step()
        print(f"epoch {epoch + 1} of {EPOCHS}: loss {loss.item():.4f}", flush=True)
    network.eval()
    torch.onnx.export(network, images[:1], out, input_names=["image"], output_names=["scores"], dynamo=False)


if __name__ == "__main__":
    main(*sys.argv[1:3])
