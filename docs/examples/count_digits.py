"""How many digits are in the image? A kind of data and a task of one's own, for docs/own_task.md."""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from foveate import Metric, register_data, register_task
from foveate.data import Batch, Dataset, Split, Target
from foveate.tasks import Meter, Scores, Task

SIDE, MOST = 32, 4


class Scattered(Split):
    """Images (1, 32, 32) with 0 to 4 handwritten digits of 8×8 pixels at random places."""

    def __init__(self, count, seed):
        draw, ink = np.random.default_rng(seed), load_digits().images.astype(np.float32) / 16
        self.counts = draw.integers(0, MOST + 1, count)
        self.images = np.zeros((count, 1, SIDE, SIDE), np.float32)
        for image, digits in zip(self.images, self.counts, strict=True):
            for cell in draw.choice(16, digits, replace=False):  # a grid of 4×4, so that none covers another
                top, left = 8 * (cell // 4), 8 * (cell % 4)
                image[0, top : top + 8, left : left + 8] = draw.choice(ink)
        self.images += draw.normal(0, 0.3, self.images.shape).astype(np.float32)

    def __len__(self):
        return len(self.counts)

    def batch(self, items, augment):
        chosen = self.checked(items)
        images = self.images[chosen]
        if augment is not None and augment[1] % 2:  # every second epoch upside down
            images = images[:, :, ::-1].copy()
        targets = {"count": torch.tensor(self.counts[chosen], dtype=torch.float32)}
        return Batch(torch.from_numpy(images), targets, torch.from_numpy(chosen))


@register_data("digits-to-count")
def open_digits(spec, *, progress=None, train=600, test=200):
    return Dataset(
        name="digits to count",
        inputs=(1, SIDE, SIDE),
        targets={"count": Target("values", ("count",), unit="digits")},
        train=Scattered(spec.train_items or train, 0),
        test=Scattered(spec.test_items or test, 1),
        fingerprint="digits-to-count-1",
        description=f"{train} training and {test} test images with 0 to {MOST} digits",
    )


@register_task("counting")
class Counting(Task):
    metrics = (Metric("count error", "digits", "lower"), Metric("exact"))
    outputs = 1  # what the head is built for

    def loss(self, model, batch):
        outputs = model(batch.inputs)[:, 0]  # exp(output) is the expected count
        return {"loss": F.poisson_nll_loss(outputs, batch.targets["count"])}

    def meter(self):
        return CountingMeter()


class CountingMeter(Meter):
    def __init__(self):
        self.errors = []

    def update(self, model, batch):
        self.errors.append((model(batch.inputs)[:, 0].exp() - batch.targets["count"]).abs())

    def scores(self):
        errors = torch.cat(self.errors)
        items = {"count error": errors.numpy(), "exact": (errors < 0.5).float().numpy()}
        return Scores({name: float(value.mean()) for name, value in items.items()}, items)
