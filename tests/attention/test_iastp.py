"""The pyramid layer against the reconstruction's numbers, its losses, and the PCA claims of the paper."""

import copy
import pickle

import pytest
import torch
from golden import assert_golden, golden_files, numbered, part, read
from torch.profiler import ProfilerActivity, profile

import foveate
from foveate.attention.iastp import attention_loss, interactive_loss, pca_objective, relaxed_pca
from foveate.attention.iastp import layer as iastp_layer

LAYERS = golden_files("iastp__layer_*")
RELAXED = golden_files("iastp__pca_relaxed_*")
HARD = golden_files("iastp__pca_hard_*")


def layer(widths=(4, 5), size=(2, 3), **options):
    return foveate.create_attention("iastp", widths[-1], shallower=widths[:-1], size=size, **options)


@pytest.mark.parametrize("path", LAYERS, ids=lambda path: path.stem)
def test_layer_equals_the_reconstruction(path):
    _, tensors = read(path)
    positions = numbered(part(tensors, "input."), "X")
    frames = int(path.stem.split("_K")[1].split("_")[0])
    fusion = path.stem.rsplit("_", 1)[1]
    module = layer([x.shape[2] for x in positions], resize=False, fusion=fusion, frames=frames).double()
    module.load_state_dict(part(tensors, "param."), strict=True)
    maps = [x.mT.unflatten(2, (frames, 2, 3)).clone().requires_grad_() for x in positions]
    seen = module.attend(maps)
    assert_golden(seen.normed, tensors["output.A"], "A")
    assert_golden(seen.softmax, tensors["output.a_softmax"], "a")
    assert_golden(seen.m, tensors["output.M"], "M")
    for j, y in enumerate(seen.y):
        assert_golden(y, tensors[f"output.Y.{j}"], f"Y.{j}")
    out = module.train()(maps)
    assert_golden(out.flatten(2).mT, tensors["output.M"], "the map")
    losses = module.losses()
    assert_golden(losses.interactive, tensors["loss.interactive"], "l_interactive")
    assert_golden(losses.attention, tensors["loss.attn"], "l_attn")
    ((out.flatten(2).mT * tensors["cotangent.M"]).sum() + losses.interactive.sum() + losses.attention.sum()).backward()
    grads = part(tensors, "grad.")
    scale = max(g.abs().max().item() for g in grads.values())
    for j, one in enumerate(maps):
        assert_golden(one.grad.flatten(2).mT, grads[f"X.{j}"], f"gradient of X.{j}")
    for name, parameter in module.named_parameters():
        assert_golden(parameter.grad, grads[name], f"gradient of {name}", scale)


@pytest.mark.parametrize("path", HARD, ids=lambda path: path.stem)
def test_t1_and_t2_orthonormal_rows_find_the_principal_axes(path):
    _, tensors = read(path)
    x = tensors["input.X"]
    for matrix, suffix in ((x, ""), (x - x.mean(1, keepdim=True), "_centred")):
        values, vectors = torch.linalg.eigh(matrix @ matrix.T)
        assert_golden(values.flip(0), tensors[f"eigenvalues{suffix}"], "eigenvalues")
        s = vectors[:, -2:].T
        torch.testing.assert_close(s.T @ s, tensors[f"projector_top_d{suffix}"])
        error = (matrix - s.T @ s @ matrix).square().sum()
        torch.testing.assert_close(error, matrix.square().sum() + pca_objective(s, matrix))
        turned = torch.linalg.qr(torch.randn(2, 2, dtype=torch.float64))[0] @ s
        torch.testing.assert_close(pca_objective(turned, matrix), pca_objective(s, matrix))
        for _ in range(20):
            other = torch.linalg.qr(torch.randn(8, 2, dtype=torch.float64))[0].T
            assert pca_objective(other, matrix) > pca_objective(s, matrix)
    values, vectors = torch.linalg.eigh(x @ x.T)
    s = vectors[:, -2:].T
    assert_golden(pca_objective(s, x), tensors["min_loss"], "least loss")
    assert_golden((x - s.T @ s @ x).square().sum(), tensors["min_reconstruction_error"], "least error")


@pytest.mark.parametrize("path", RELAXED, ids=lambda path: path.stem)
def test_t3_unit_rows_under_eq_6_span_the_active_axes(path):
    _, tensors = read(path)
    x, found = tensors["input.X"], tensors["lbfgs_A"]
    best = relaxed_pca(x, rows=3)
    torch.testing.assert_close(best.minimum, tensors["min_loss"])
    torch.testing.assert_close(best.gram_eigenvalues, tensors["gram_eigenvalues"])
    torch.testing.assert_close(best.projector, tensors["projector_span"])
    torch.testing.assert_close(interactive_loss(found, x), best.minimum, rtol=1e-8, atol=0)
    torch.testing.assert_close(
        torch.linalg.eigvalsh(found @ found.T).flip(0), best.gram_eigenvalues, rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(found @ best.projector, found, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weight", [0.2, 1.0, 7.0])
def test_t3_a_descent_from_anywhere_ends_at_the_closed_form(weight):
    x = torch.randn(6, 20, dtype=torch.float64) * 0.3
    rows = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    descent = torch.optim.LBFGS([rows], max_iter=2000, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def loss():
        descent.zero_grad()
        value = interactive_loss(torch.nn.functional.normalize(rows, dim=1), x, weight)
        value.backward()
        return value

    descent.step(loss)
    torch.testing.assert_close(loss().detach(), relaxed_pca(x, 3, weight).minimum, rtol=1e-9, atol=1e-10)


def test_t3_two_rows_meet_at_the_angle_of_the_eigenvalues_and_part_as_the_weight_grows():
    x = torch.randn(6, 20, dtype=torch.float64) * 0.3
    values = torch.linalg.eigvalsh(x @ x.T).flip(0)
    for weight in (0.05, 1.0, 1e4):
        cosine = min(1.0, float(values[0] - values[1]) / (4 * weight))
        wanted = torch.tensor([1 + cosine, 1 - cosine], dtype=torch.float64)
        torch.testing.assert_close(relaxed_pca(x, 2, weight).gram_eigenvalues, wanted)


def test_t4_softmax_rows_are_positive_so_never_orthogonal():
    a = layer().attend([torch.randn(2, 4, 2, 3), torch.randn(2, 5, 2, 3)]).normed
    assert (a > 0).all()
    torch.testing.assert_close(a.norm(dim=-1), torch.ones(2, 6))
    assert (a @ a.mT > 0).all()


def test_t5_one_scale_has_a_constant_attention_loss():
    module = layer((5,), frames=2).double().train()
    module(torch.randn(3, 5, 2, 2, 3, dtype=torch.float64))
    loss = module.losses().attention
    torch.testing.assert_close(loss, torch.full((3,), (6 * 2 * 6) ** 0.5, dtype=torch.float64))
    loss.sum().backward()
    assert module.W[0].grad.abs().max() < 1e-15


@pytest.mark.parametrize(("fusion", "dead"), [("sum", True), ("mean", True), ("max", False)])
def test_the_bias_is_dead_unless_scales_are_fused_by_the_maximum(fusion, dead):
    module = layer(fusion=fusion).double().train()
    out = module([torch.randn(2, 4, 2, 3).double(), torch.randn(2, 5, 2, 3).double()])
    (out.square().sum() + module.losses().interactive.sum()).backward()
    assert (max(b.grad.abs().max() for b in module.b) < 1e-12) == dead
    assert module.W[0].grad.abs().max() > 1e-3


def test_gradients_reach_every_scale_frame_and_loss():
    module = layer((3, 4, 5), fusion="max", frames=2).double().train()
    maps = [torch.randn(2, c, 2, 8 // c, 6 // (c - 2), dtype=torch.float64).requires_grad_() for c in (3, 4, 5)]

    def everything(*maps):
        return module(maps), *module.losses()

    assert torch.autograd.gradcheck(everything, tuple(maps), fast_mode=True)


@pytest.mark.parametrize("fusion", ["sum", "max"])
def test_many_pairs_are_gone_through_in_parts(fusion, monkeypatch):
    module = layer(fusion=fusion, frames=2).double().train()
    maps = [torch.randn(2, c, 2, 4, 3, dtype=torch.float64, requires_grad=True) for c in (4, 5)]

    def everything():
        out, losses = module(maps), module.losses()
        loss = out.square().sum() + losses.interactive.sum() + losses.attention.sum()
        return [out, *torch.autograd.grad(loss, [*maps, *module.parameters()])]

    whole = everything()
    monkeypatch.setattr(iastp_layer, "AT_ONCE", 60)
    for one, other in zip(everything(), whole, strict=True):
        torch.testing.assert_close(one, other)


def test_losses_of_many_pairs_hold_a_part_of_them_at_a_time(monkeypatch):
    monkeypatch.setattr(iastp_layer, "AT_ONCE", 2**16)
    module = layer((4,), size=(24, 32)).train()
    x = torch.randn(1, 4, 24, 32, requires_grad=True)

    def step():
        out, losses = module(x), module.losses()
        (out.sum() + losses.interactive.sum() + losses.attention.sum()).backward()

    step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as seen:
        step()
    assert max(event.cpu_memory_usage for event in seen.events() if event.name == "[memory]") <= 2**16 * 4


@pytest.mark.parametrize("at_once", [2**24, 40])
def test_a_normalised_loss_of_interaction_is_bounded_whatever_the_features_are(at_once, monkeypatch):
    monkeypatch.setattr(iastp_layer, "AT_ONCE", at_once)
    torch.manual_seed(3)
    module = layer((4,), size=(2, 3), normalize=True, loss_factors=(1.0, 0.5)).double().train()
    x = torch.randn(3, 4, 2, 3, dtype=torch.float64)
    module(x)
    losses, seen = module.losses(), module.attend(x)
    unit = seen.x / seen.x.flatten(1).norm(dim=1)[:, None, None]
    torch.testing.assert_close(losses.interactive, interactive_loss(seen.normed, unit))
    torch.testing.assert_close(losses.attention, 0.5 * attention_loss(seen.softmax, [y.softmax(-1) for y in seen.y]))
    module(1e4 * x)
    assert (module.losses().interactive >= -6).all()
    with pytest.raises(ValueError, match="loss_factors must be two numbers of 0 or more"):
        layer((4,), loss_factors=(1, -1))


def test_larger_maps_are_averaged_down_and_the_result_back():
    module = layer((5,), size=(2, 3))
    x = torch.randn(2, 5, 2, 3)
    large = x.repeat_interleave(4, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(module(large), module(x).repeat_interleave(4, 2).repeat_interleave(2, 3))
    with pytest.raises(ValueError, match=r"wanted a map of size \(2, 3\) .resize=False.; got \(2, 5, 8, 6\)"):
        layer((5,), size=(2, 3), resize=False)(large)


def test_losses_need_a_training_pass_and_a_copy_starts_without():
    module = layer()
    maps = [torch.randn(2, 4, 6, 6), torch.randn(2, 5, 2, 3)]
    module.eval()(maps)
    with pytest.raises(RuntimeError, match="kept from a forward pass in training mode"):
        module.losses()
    out = module.train()(maps)
    assert module.losses().attention.requires_grad
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        with pytest.raises(RuntimeError):
            other.losses()
        assert torch.equal(other(maps), out)


def test_the_loss_of_the_scales_is_least_where_they_differ():
    a = torch.softmax(torch.randn(2, 6, 6), -1)
    far = torch.eye(6).expand(2, 6, 6)
    assert (attention_loss(a, [a]) == 6.0).all()
    assert (attention_loss(far, [far.flip(-1)]) < 6.0).all()


def test_capture_gives_the_rows_that_are_asked_for():
    module = layer((5,), frames=2)
    x = torch.randn(2, 5, 2, 2, 3)
    with foveate.capture(module, queries=[(1, 0), 5]) as seen:
        module(x)
    torch.testing.assert_close(seen.maps[""]["affinity"], module.attend(x).normed[:, [3, 5]])
    with foveate.capture(module) as seen:
        module(x)
    assert not seen.maps


@pytest.mark.parametrize("training", [False, True])
def test_a_pyramid_compiles_whole_and_exports(training):
    module = layer().train(training)
    maps = [torch.randn(2, 4, 6, 6), torch.randn(2, 5, 2, 3)]
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(maps), module(maps))
    exported = torch.export.export(layer().train(training), (maps,)).module()
    assert exported(maps).shape == (2, 5, 2, 3)


def test_bad_maps_are_refused_in_one_line():
    module = layer(frames=2)
    good = [torch.randn(2, 4, 2, 4, 6), torch.randn(2, 5, 2, 2, 3)]
    assert module(good).shape == (2, 5, 2, 3)
    for maps, message in (
        (good[1], r"wanted 2 maps, shallow to deep, of \(4, 5\) channels; got 1"),
        (good[::-1], "wanted a map"),
        ([good[0], torch.randn(2, 5, 3, 2, 3)], "wanted 2 frames"),
        ([good[0], good[1][:1]], r"wanted maps of one batch; got \[2, 1\] samples"),
    ):
        with pytest.raises(ValueError, match=message):
            module(maps)
    for options in ({"size": (2,)}, {"fusion": "min"}, {"frames": 0}):
        with pytest.raises(ValueError, match="iastp: .*; got"):
            foveate.create_attention("iastp", 4, **options)
