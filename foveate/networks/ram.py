"""Recurrent attention model: a few glimpses of an image, placed by a policy trained with REINFORCE. arXiv:1406.6247."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.attention import record
from foveate.attention.stn import affine_sample
from foveate.networks._registry import register_network


class GlimpseSensor(nn.Module):
    """Square patches around a place, each twice as wide as the one before, all brought to the same size.

    Args:
        patch: side of the first, and of all once they are brought to size, in pixels.
        scales: number of patches.

    Shape: images (N, C, H, W), places (N, 2) as (x, y) from −1 to 1 (the outer edges) → (N, scales · C, patch, patch).
        Pixels between the grid are interpolated, those outside the image are 0.
    """

    def __init__(self, patch: int, scales: int) -> None:
        super().__init__()
        self.patch, self.scales = patch, scales

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        height, width = x.shape[2:]
        seen = []
        for scale in range(self.scales):
            side = self.patch * 2**scale
            theta = x.new_zeros(x.shape[0], 2, 3)
            theta[:, 0, 0], theta[:, 1, 1] = side / width, side / height
            theta[:, :, 2] = places
            seen.append(F.avg_pool2d(affine_sample(x, theta, (side, side)), 2**scale))
        return torch.cat(seen, 1)


class RecurrentAttention(nn.Module):
    """Looks at an image through glimpses, each at a place that the state after the one before proposes.

        g_t = ReLU(W [ReLU(W sensor(x, l_t)); ReLU(W l_t)]);  h_t = ReLU(W h_{t−1} + W g_t)
        l_{t+1} ~ N(tanh(W h_t), deviation²);  class ~ softmax(W h_T)

    Args:
        num_classes: of the last layer.
        in_channels: of the image.
        glimpses: T.
        patch, scales: of the sensor; the paper's are 8×8 at one scale for MNIST, 12×12 at three for its larger images.
        hidden: width of the state and of the glimpse's vector (256); half of it is that of their two parts.
        deviation: of the places that are tried in training; in evaluation each place is the mean. The first place is
            the middle of the image.
        reinforce: weight of the policy's loss in `loss`.

    Training: `loss` adds the cross-entropy of the last state, through which the weights of what is seen and of the
        state learn; the policy's loss −Σ_t log π(l_t) (R − b_t), whose gradient is the REINFORCE estimate for the
        reward R = 1 for a right class and 0 else; and the square error of the baselines b_t against R.
    Shape: (N, in_channels, H, W) → (N, num_classes) logits, for any H and W; in training {"out": logits, "policy":
        (N, T − 1) log-probabilities of the places, "baseline": (N, T − 1)}. Captured: places (N, T, 2) as (x, y).
    Source: Mnih, Heess, Graves, Kavukcuoglu, "Recurrent Models of Visual Attention", NeurIPS 2014, arXiv:1406.6247.
        Departures: the first place is the middle, the means of the places are kept inside the image by tanh, and what
        the policy and the baseline read of the state is detached, so that the estimate trains the policy alone.
    Init: torch's default; h_0 = 0.
    Raises: ValueError: numbers that cannot be.
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        in_channels: int = 1,
        glimpses: int = 6,
        patch: int = 12,
        scales: int = 3,
        hidden: int = 256,
        deviation: float = 0.15,
        reinforce: float = 1.0,
    ) -> None:
        super().__init__()
        counts = {"glimpses": (glimpses, 2), "patch": (patch, 1), "scales": (scales, 1), "hidden": (hidden, 2)}
        for option, (count, least) in counts.items():
            if not isinstance(count, int) or count < least:
                raise ValueError(f"ram: {option} must be a whole number of at least {least}; got {count!r}")
        if not deviation > 0 or not reinforce >= 0:
            raise ValueError(
                f"ram: deviation must be positive and reinforce at least 0; got {deviation!r} and {reinforce!r}"
            )
        self.in_channels, self.glimpses = in_channels, glimpses
        self.deviation, self.reinforce = deviation, reinforce
        self.sensor = GlimpseSensor(patch, scales)
        self.what = nn.Linear(scales * in_channels * patch**2, hidden // 2)
        self.where = nn.Linear(2, hidden // 2)
        self.what_to_glimpse, self.where_to_glimpse = nn.Linear(hidden // 2, hidden), nn.Linear(hidden // 2, hidden)
        self.from_state, self.from_glimpse = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.place = nn.Linear(hidden, 2)
        self.baseline = nn.Linear(hidden, 1)
        self.fc = nn.Linear(hidden, num_classes)

    def _glimpse(self, x: Tensor, places: Tensor) -> Tensor:
        what = torch.relu(self.what(self.sensor(x, places).flatten(1)))
        where = torch.relu(self.where(places))
        return torch.relu(self.what_to_glimpse(what) + self.where_to_glimpse(where))

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"ram: wanted images (N, {self.in_channels}, H, W); got {tuple(x.shape)}")
        state = x.new_zeros(x.shape[0], self.from_state.in_features)
        places, policy, baselines = [x.new_zeros(x.shape[0], 2)], [], []
        for step in range(self.glimpses):
            state = torch.relu(self.from_state(state) + self.from_glimpse(self._glimpse(x, places[-1])))
            if step + 1 == self.glimpses:
                break
            known = state.detach()
            mean = torch.tanh(self.place(known))
            tried = mean.detach()
            if self.training:
                tried = tried + self.deviation * torch.randn_like(tried)
                policy.append(self._log_probability(tried, mean))
                baselines.append(self.baseline(known).squeeze(1))
            places.append(tried)
        record(self, places=torch.stack(places, 1))
        logits = self.fc(state)
        if not self.training:
            return logits
        return {"out": logits, "policy": torch.stack(policy, 1), "baseline": torch.stack(baselines, 1)}

    def _log_probability(self, place: Tensor, mean: Tensor) -> Tensor:
        """Of a place (N, 2) under the normal distribution around the mean."""
        scaled = (place - mean) / self.deviation
        return -(scaled.square() / 2 + math.log(self.deviation) + math.log(2 * math.pi) / 2).sum(1)

    def loss(self, outputs: Tensor | Mapping[str, Tensor], targets: Tensor) -> Tensor:
        """Cross-entropy, the policy's loss and the baselines' square error, for labels (N,); of logits, as evaluation
        gives them, the cross-entropy."""
        if isinstance(outputs, Tensor):
            return F.cross_entropy(outputs.float(), targets)
        logits, baseline = outputs["out"].float(), outputs["baseline"].float()
        reward = (logits.argmax(1) == targets).to(baseline.dtype)[:, None]
        advantage = (reward - baseline).detach()
        policy = -(outputs["policy"].float() * advantage).sum(1).mean()
        return F.cross_entropy(logits, targets) + self.reinforce * policy + (baseline - reward).square().mean()


register_network("ram", shape=(1, 60, 60))(RecurrentAttention)
