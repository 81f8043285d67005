"""Non-local and dual attention against their definitions, pair by pair."""

import pytest
import torch
from golden import assert_golden, golden_files, golden_loader, read

import foveate
from foveate.attention import attention_options, nl
from foveate.costs import macs

SIZES = {1: (7,), 2: (5, 6), 3: (3, 4, 5)}


def randomised(name: str, channels: int, **options) -> torch.nn.Module:
    module = foveate.create_attention(name, channels, **options).double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    return module


def plain(module: nl.NonLocal, x: torch.Tensor) -> torch.Tensor:
    """y, one pair of positions after the other, from the module's weights."""
    pool = torch.nn.Identity()
    if module.window:
        pool = (torch.nn.MaxPool1d, torch.nn.MaxPool2d, torch.nn.MaxPool3d)[x.dim() - 3](module.window)
    first, last = (pool, torch.nn.Identity()) if module.pool_first else (torch.nn.Identity(), pool)
    g = last(module.g(first(x))).flatten(2)
    theta = x if module.theta is None else module.theta(x)
    phi = last(first(x) if module.phi is None else module.phi(first(x))).flatten(2)
    mean = torch.zeros(x.shape[0], g.shape[1], theta.flatten(2).shape[2], dtype=x.dtype)
    for n in range(x.shape[0]):
        for i, query in enumerate(theta[n].flatten(1).T):
            match module.form:
                case "concatenation":
                    f = torch.stack([torch.relu(module.join @ torch.cat([query, key])) for key in phi[n].T])
                    weights = f / len(f)
                case "dot_product":
                    weights = torch.stack([query @ key for key in phi[n].T]) / phi.shape[2]
                case _:
                    weights = torch.softmax(torch.stack([query @ key for key in phi[n].T]) * module.scale, 0)
            mean[n, :, i] = g[n] @ weights
    z = module.out(mean.reshape(x.shape[0], -1, *x.shape[2:]))
    return x + (z if module.norm is None else module.norm(z))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("form", nl.FORMS)
@pytest.mark.parametrize("pool", [{}, {"sub_sample": True}, {"sub_sample": True, "pool_first": False}], ids=str)
def test_every_form_is_the_sum_over_pairs(form, dims, pool):
    module = randomised("nl", 6, spatial_dims=dims, form=form, **pool)
    x = torch.randn(2, 6, *SIZES[dims], dtype=torch.float64)
    torch.testing.assert_close(module(x), plain(module, x), rtol=1e-9, atol=1e-10)


def test_pooling_leaves_time_alone_and_a_window_larger_than_the_map_is_cut():
    clip = foveate.create_attention("nl", 4, spatial_dims=3, sub_sample=True)
    with foveate.capture(clip, queries=[0]) as seen:
        clip(torch.randn(1, 4, 3, 4, 6))
    assert seen.maps[""]["affinity"].shape == (1, 1, 3 * 2 * 3)
    image = foveate.create_attention("nl", 4, sub_sample=True).eval()
    with foveate.capture(image, queries=[(0, 2)]) as seen:
        image(torch.randn(1, 4, 1, 5))
    assert seen.maps[""]["affinity"].shape == (1, 1, 2)


@pytest.mark.parametrize("path", golden_files("nonlocal_alexhex7__*"), ids=lambda path: path.stem)
def test_the_whole_affinity_on_demand_is_the_official_map(path):
    header, tensors = read(path)
    module, _ = golden_loader(path)
    with foveate.capture(module.train(header["mode"] == "train"), queries="all") as seen:
        module(tensors["input"])
    assert_golden(seen.maps[""]["affinity"], tensors["aux"], "affinity")


@pytest.mark.parametrize(
    ("name", "options", "fits"),
    [
        ("nl", {}, r"5.7 MiB.*: sub_sample=True .3.9 MiB., form='dot_product' .4.7 MiB., a map of 30×40 .2.2 MiB."),
        ("nl", {"form": "gaussian"}, r"8.0 MiB.*form='dot_product' .* a map of 30×40"),
        ("nl", {"form": "concatenation"}, r"5.7 MiB.*form='dot_product' .4.7 MiB., a map of 30×40"),
        ("nl", {"form": "dot_product", "channels": 72}, r"5.3 MiB.*: sub_sample=True .3.3 MiB., a map of 30×40"),
        ("nl", {"sub_sample": True, "channels": 96}, r"5.4 MiB.*: form='dot_product' .4.4 MiB., a map of 30×40"),
        ("danet_position", {}, r"6.3 MiB.*: a map of 30×40 .2.3 MiB., attention_budget_mib=7"),
        ("danet_channel", {"channels": 200}, r"7.9 MiB.*: a map of 30×40 .2.4 MiB., attention_budget_mib=8"),
        ("iastp", {"size": (20, 30)}, r"21.2 MiB.*: size 10×15 .1.4 MiB., attention_budget_mib=22"),
        ("sra", {}, r"7.9 MiB.*: a map of 30×40 .2.6 MiB., attention_budget_mib=8"),
        (
            "sra",
            {"channels": 48},
            r"5.4 MiB.*: reduction=4 .4.3 MiB., a map of 30×40 .1.7 MiB., attention_budget_mib=6",
        ),
    ],
    ids=str,
)
def test_a_map_over_the_budget_is_refused_with_what_would_fit(name, options, fits):
    channels = options.pop("channels", 64)
    module = foveate.create_attention(name, channels, attention_budget_mib=5, **options)
    with pytest.raises(ValueError, match=f"{name}: attending on .* positions needs {fits}") as error:
        module(torch.randn(1, channels, 60, 80))
    assert "\n" not in str(error.value)
    needed = float(str(error.value).split(" MiB")[0].split()[-1])
    foveate.create_attention(name, channels, attention_budget_mib=needed + 0.1, **options)(
        torch.randn(1, channels, 60, 80)
    )


@pytest.mark.parametrize("name", ["nl", "danet_position", "danet_channel", "sra"])
def test_a_map_far_over_the_budget_is_refused_unread(name):
    huge = torch.zeros(1).expand(1, 64, 10**4, 10**4)  # 24 GiB once it is read
    with pytest.raises(ValueError, match=f"{name}: attending on 10000×10000 positions needs .* MiB"):
        foveate.create_attention(name, 64, attention_budget_mib=5)(huge)


@pytest.mark.parametrize(("channels", "parameters"), [(256, 132224), (512, 526592), (1024, 2101760)])
def test_has_as_many_parameters_as_the_official_block(channels, parameters):
    module = foveate.create_attention("nl", channels, spatial_dims=3)
    assert sum(p.numel() for p in module.parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("nl", {}),
        ("nl", {"variant": "paper"}),
        ("nl", {"norm": False}),
        ("danet_position", {}),
        ("danet_channel", {}),
    ],
    ids=str,
)
def test_is_the_identity_at_the_start(name, options):
    module = foveate.create_attention(name, 16, **options)
    assert module.starts_as_identity
    x = torch.randn(2, 16, 5, 4)
    assert torch.equal(module(x), x)


def test_mistakes_say_what_would_do():
    with pytest.raises(ValueError, match="form must be one of 'embedded_gaussian'"):
        foveate.create_attention("nl", 8, form="softmax")
    with pytest.raises(ValueError, match="scale=True needs a softmax form"):
        foveate.create_attention("nl", 8, form="dot_product", scale=True)
    with pytest.raises(ValueError, match="orders nothing without sub_sample"):
        foveate.create_attention("nl", 8, pool_first=True)
    with pytest.raises(ValueError, match="sub_sample must be True, False or 2 whole numbers"):
        foveate.create_attention("nl", 8, sub_sample=(1, 2, 2))
    with pytest.raises(ValueError, match="width must be a positive whole number; got 0"):
        foveate.create_attention("nl", 8, width=0)
    for budget in (0, -1, True, "8"):
        with pytest.raises(ValueError, match="nl: attention_budget_mib must be a positive number or None; got"):
            foveate.create_attention("nl", 8, attention_budget_mib=budget)
    with pytest.raises(ValueError, match=r"4 // 8 = 0 \(reduction=2 would do\)"):
        foveate.create_attention("danet_position", 4)
    with (
        pytest.raises(ValueError, match="queries must be 'all' or a list of positions; got 'every'"),
        foveate.capture(torch.nn.Identity(), queries="every"),
    ):
        pass


def test_points_of_two_axes_leave_out_the_affinity_of_channels():
    pair = torch.nn.Sequential(
        foveate.create_attention("danet_position", 8), foveate.create_attention("danet_channel", 8)
    )
    with foveate.capture(pair, queries=[(1, 2)]) as seen:
        pair(torch.randn(2, 8, 3, 4))
    assert seen.maps["0"]["affinity"].shape == (2, 1, 12)
    assert "1" not in seen.maps
    torch.testing.assert_close(seen.maps["0"]["affinity"].sum(2), torch.ones(2, 1))


def test_the_official_channel_attention_looks_at_unlike_channels_and_the_paper_at_like_ones():
    x = torch.zeros(1, 3, 2, 2)
    x[:, :2], x[:, 2] = 1.0, -1.0
    found = {}
    for variant in ("official", "paper"):
        module = foveate.create_attention("danet_channel", 3, variant=variant)
        with foveate.capture(module, queries=[0]) as seen:
            module(x)
        found[variant] = seen.maps[""]["affinity"][0, 0].argmax().item()
    assert found == {"official": 2, "paper": 0}


@pytest.mark.parametrize("sub_sample", [False, True])
@pytest.mark.parametrize("form", nl.FORMS)
def test_the_affinity_that_is_shown_is_the_one_that_is_used(form, sub_sample):
    module = randomised("nl", 6, form=form, sub_sample=sub_sample, norm=False)
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    with foveate.capture(module, queries="all") as seen:
        y = module(x)
    values = module.g(torch.nn.functional.max_pool2d(x, 2) if sub_sample else x).flatten(2)
    mixed = (seen.maps[""]["affinity"] @ values.mT).mT.unflatten(2, (5, 4))
    torch.testing.assert_close(y, x + module.out(mixed))


@pytest.mark.parametrize("form", nl.FORMS)
def test_positions_of_a_clip_look_at_the_frames_of_their_group(form):
    torch.manual_seed(5)
    whole = randomised("nl", 6, spatial_dims=3, form=form, sub_sample=True)
    grouped = foveate.create_attention("nl", 6, spatial_dims=3, form=form, sub_sample=True, group_frames=2)
    grouped = grouped.double().eval()
    grouped.load_state_dict(whole.state_dict())
    x = torch.randn(2, 6, 6, 4, 6, dtype=torch.float64)
    with torch.no_grad():
        wanted = torch.cat([whole(x[:, :, first : first + 2]) for first in (0, 2, 4)], 2)
        torch.testing.assert_close(grouped(x), wanted)
        torch.testing.assert_close(grouped(x[:, :, :2]), whole(x[:, :, :2]))
        with pytest.raises(ValueError, match="wanted a multiple of 2 frames"):
            grouped(x[:, :, :3])
    known = {"C": 6, "P": 144, "S": (6, 4, 6), "d": 3, "max": max, "min": min, **attention_options("nl")}
    known |= {"form": form, "sub_sample": True, "group_frames": 2}
    for name, expression in nl.FACTS.where.items():
        known[name] = eval(expression, {}, dict(known))
    assert eval(nl.FACTS.macs, {}, dict(known)) == macs(grouped, x[:1])
    with pytest.raises(ValueError, match="group_frames goes with spatial_dims=3"):
        foveate.create_attention("nl", 6, group_frames=2)
