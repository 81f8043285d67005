"""What the tests of counting count on: a small map, and a function as a module."""

import torch
from torch import nn

FLOAT = 4
N, C, H, W = 2, 8, 6, 5
P = H * W
X = torch.randn(N, C, H, W)


class Steps(nn.Module):
    """A function as a module, with what it needs as buffers, so that nothing is made while it runs."""

    def __init__(self, run, **needs):
        super().__init__()
        self.run = run
        for name, value in needs.items():
            self.register_buffer(name, value)

    def forward(self, *x):
        return self.run(self, *x)
