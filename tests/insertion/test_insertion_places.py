"""Places easily missed or wrongly taken: predictions, skips handed in, adds written otherwise, shared blocks."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from insertion_networks import Block, Gate, HandWritten, Tokens, lively
from torch import nn

import foveate
from foveate.insertion import insert, inserted, remove, sites

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def names(model, at="block", x=X):
    return [site.name for site in sites(lively(model), x, at)]


class Denoiser(nn.Module):
    """DnCNN: the noise, a whole network's output, is subtracted from the image."""

    def __init__(self, add=False):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8),
            nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1),
        )  # fmt: skip
        self.add = add

    def forward(self, x):
        return x + self.layers(x) if self.add else x - self.layers(x)


class AutoEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(16, 8, 2, 2), nn.ReLU(), nn.ConvTranspose2d(8, 3, 2, 2), nn.Sigmoid()
        )

    def forward(self, x):
        return self.decoder(self.encoder(x))


class Generator(nn.Sequential):
    """DCGAN's: latent vectors to images."""

    def __init__(self):
        super().__init__(
            nn.ConvTranspose2d(10, 16, 4), nn.BatchNorm2d(16), nn.ReLU(),
            nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh(),
        )  # fmt: skip


class ResidualUnit(nn.Module):
    """MONAI's: the last unit of a U-Net ends in a convolution alone, and is the prediction."""

    def __init__(self, inputs, outputs, last=False):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.PReLU())
        if last:
            self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.residual = nn.Conv2d(inputs, outputs, 1)
        self.more = nn.Conv2d(outputs, outputs, 3, padding=1) if not last else nn.Identity()

    def forward(self, x):
        return self.residual(x) + self.more(self.conv(x))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Denoiser(), ["layers.1", "layers.4"]),
        (Denoiser(add=True), ["layers.1", "layers.4"]),
        (AutoEncoder(), ["encoder.1", "encoder.3", "decoder.1"]),
        (nn.Sequential(nn.Conv2d(3, 8, 9, padding=4), nn.ReLU(), nn.Conv2d(8, 3, 5, padding=2)), ["1"]),
        (nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 12, 3, padding=1), nn.PixelShuffle(2)),
         ["1"]),
        (nn.Sequential(ResidualUnit(3, 8), ResidualUnit(8, 8), ResidualUnit(8, 2, last=True)), ["0.more", "1.more"]),
    ],
    ids=["dncnn", "vdsr", "autoencoder", "srcnn", "espcn", "monai"],
)  # fmt: skip
def test_predictions_are_no_blocks(model, expected):
    assert names(model) == expected
    assert len(insert(model, "eca", example=X)) == len(expected)


def test_the_image_of_a_generator_is_no_block():
    assert names(Generator(), x=torch.randn(2, 10, 1, 1)) == ["2", "5"]


def test_a_trunk_keeps_its_last_block():
    """What a trunk gives out are features: with a norm or activation, or of more channels than went in."""

    class PreActivation(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.norm, self.conv1 = nn.BatchNorm2d(channels), nn.Conv2d(channels, 4, 1)
            self.conv2 = nn.Conv2d(4, channels, 3, padding=1)

        def forward(self, x):
            return x + self.conv2(F.relu(self.conv1(F.relu(self.norm(x)))))

    trunk = nn.Sequential(nn.Conv2d(3, 8, 1), PreActivation(8), PreActivation(8))
    assert names(trunk) == ["1.conv2", "2.conv2"]
    convolutions = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.MaxPool2d(2))
    assert names(convolutions) == ["1", "3"]
    assert names(nn.Sequential(nn.Conv2d(3, 8, 1), Block(8, 8, 1, "plus"))) == ["1.norm2"]


def test_predictions_of_a_detector_are_no_blocks():
    model = torchvision.models.detection.ssd300_vgg16(weights=None, weights_backbone=None, num_classes=4)
    found = [site.name for site in sites(model.eval(), [torch.rand(3, 300, 300)], "block")]
    assert len(found) == 22
    assert all(name.startswith("backbone.") for name in found)


class Output(nn.Module):
    """BERT's: the module that adds was handed the skip."""

    def __init__(self, channels, inner):
        super().__init__()
        self.dense, self.norm = nn.Linear(inner, channels), nn.LayerNorm(channels)

    def forward(self, x, skip):
        return self.norm(self.dense(x) + skip)


class BertLayer(nn.Module):
    def __init__(self, channels=12):
        super().__init__()
        self.mix, self.first = nn.Linear(channels, channels), Output(channels, channels)
        self.grow, self.second = nn.Linear(channels, 20), Output(channels, 20)

    def forward(self, x):
        x = self.first(self.mix(x), x)
        return self.second(F.gelu(self.grow(x)), x)


class Bert(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, 4)
        self.layers = nn.ModuleList([BertLayer(), BertLayer()])

    def forward(self, x):
        x = self.patches(x).flatten(2).mT
        for layer in self.layers:
            x = layer(x)
        return x.mean(1)


def test_the_branch_of_a_skip_that_was_handed_in():
    assert names(Bert()) == [f"layers.{i}.{end}.dense" for i in (0, 1) for end in ("first", "second")]


ADDS = {
    "lerp": lambda x, y, s: torch.lerp(x, y, 0.5),
    "lerp by a weight": lambda x, y, s: x.lerp(y, s),
    "addcmul": lambda x, y, s: torch.addcmul(x, y, s),
    "stack and sum": lambda x, y, s: torch.stack([x, y]).sum(0),
    "stack and mean": lambda x, y, s: torch.stack((x, y), dim=0).mean(dim=0),
    "minus": lambda x, y, s: x - y,
    "minus the input": lambda x, y, s: y - x,
    "torch.sub": lambda x, y, s: torch.sub(x, y),
    "sum": lambda x, y, s: sum([x, y]),
}


@pytest.mark.parametrize("add", ADDS)
def test_the_branch_however_it_is_joined(add):
    class Joining(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
            self.norm, self.scale = nn.BatchNorm2d(8), nn.Parameter(torch.ones(8, 1, 1))

        def forward(self, x):
            return F.relu(ADDS[add](x, self.norm(self.conv2(F.relu(self.conv1(x)))), self.scale))

    model = nn.Sequential(nn.Conv2d(3, 8, 1), Joining(), Joining())
    assert names(model) == ["1.norm", "2.norm"]
    plain = model(X)
    insert(model, Gate, example=X, init="identity")
    assert torch.equal(model(X), plain)


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = HandWritten()

    def forward(self, x):
        return self.trunk(x) - self.trunk(x.flip(3))


def test_blocks_that_are_called_twice_say_where_attention_can_go():
    model = lively(Siamese())
    with pytest.raises(LookupError, match=r"trunk is called 2 times .* foveate.insert\(model.trunk, ...\)"):
        insert(model, Gate, example=X)
    plain = model(X)
    insert(model.trunk, Gate, example=X)
    assert len(inserted(model)) == 4
    assert (model(X) - plain).abs().max() > 1e-3
    assert torch.equal(remove(model)(X), plain)


class KeywordOnly(HandWritten):
    def forward(self, *, pixel_values, mask=None):
        return {"logits": super().forward(pixel_values)}


class OneDictionary(HandWritten):
    def forward(self, batch):
        return super().forward(batch["image"])


class CallsByKeyword(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(input=self.b(input=F.relu(self.a(input=x))))


@pytest.mark.parametrize(
    ("model", "example"),
    [(KeywordOnly(), {"pixel_values": X}), (OneDictionary(), ({"image": X},))],
    ids=["keys", "one"],
)
def test_examples_by_keyword(model, example):
    assert [site.name for site in sites(lively(model), example, "block")] == names(HandWritten())
    assert len(insert(model, Gate, example=example)) == 4


def test_modules_called_by_keyword():
    model = lively(CallsByKeyword())
    plain = model(X)
    insert(model, "drsn_cw", at="relu", replace=True, example=X, init="identity", reduction=1)
    insert(model, Gate, at=["a", "b"], example=X, init="identity")
    assert torch.equal(model(X), plain)


def test_errors_of_a_mechanism_name_the_site():
    with pytest.raises(ValueError, match=r"^stage1.0.norm2: se: channels // reduction must be at least 1; got 8 // 16"):
        insert(lively(HandWritten()), "se", example=X)

    def picky(channels):
        raise RuntimeError("not today")

    with pytest.raises(ValueError, match="^stage1.0.norm2: not today"):
        insert(lively(HandWritten()), picky, example=X)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # torch.jit
def test_what_cannot_be_inserted_into():
    lively_outside = lively(HandWritten())
    traced = torch.jit.trace(lively(HandWritten()), X)
    for call in (lambda: insert(traced, Gate, example=X), lambda: inserted(traced), lambda: remove(traced)):
        with pytest.raises(ValueError, match="TorchScript module is fixed; insert first, then torch.jit.trace"):
            call()
    assert inserted(nn.Sequential(traced)) == []
    with pytest.raises(ValueError, match="capture: a TorchScript module records nothing"), foveate.capture(traced):
        pass
    with pytest.raises(ValueError, match="a TorchScript module cannot be counted; give the network"):
        foveate.cost(traced, X)
    with torch.inference_mode():
        assert sites(lively_outside, X)
        made_there = lively(HandWritten())
    with pytest.raises(ValueError, match="the model was made under torch.inference_mode"):
        insert(made_there, Gate, example=X)
    model = lively(HandWritten())
    with torch.inference_mode(), pytest.raises(ValueError, match="made under torch.inference_mode cannot be trained"):
        insert(model, Gate, example=X)
    insert(model, Gate, example=X)
    assert torch.equal(torch.jit.trace(model, X)(X), model(X))


class Frozen(nn.Module):
    """A backbone that runs without gradients, and a block behind it."""

    def __init__(self):
        super().__init__()
        self.stem, self.fixed, self.learned = nn.Conv2d(3, 8, 1), Block(8, 8, 1, "plus"), Block(8, 8, 1, "plus")

    def forward(self, x):
        with torch.no_grad():
            x = self.fixed(self.stem(x))
        return self.learned(x).mean((2, 3))


def test_a_part_that_runs_without_gradients_is_said():
    model = lively(Frozen())
    for parameter in model.stem.parameters():
        parameter.requires_grad_(False)
    report = insert(model, Gate, example=X)
    assert {p.site.name: p.untrained for p in report} == {"fixed.norm2": True, "learned.norm2": False}
    assert str(report).splitlines()[-1] == (
        "fixed.norm2: the network runs it under torch.no_grad; attention here gets no gradient"
    )
    assert {n.split(".")[0] for n, p in model.named_parameters() if not p.requires_grad} == {"stem"}
    model(X).sum().backward()
    grads = {name: any(p.grad is not None for p in m.parameters()) for name, m in inserted(model)}
    assert grads == {"fixed.norm2": False, "learned.norm2": True}


def test_a_classifier_of_zeros_proves_nothing():
    model = lively(Tokens())
    nn.init.zeros_(model.head.weight)
    assert not any(p.unread for p in insert(model, Gate, example=torch.randn(2, 3, 64, 64)))
    remove(model)
    nn.init.normal_(model.head.weight)
    report = insert(model, Gate, example=torch.randn(2, 3, 64, 64))
    assert [p.site.name for p in report if p.unread] == ["blocks.1.mix", "blocks.1.mlp.2"]
