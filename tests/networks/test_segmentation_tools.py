"""Every network for segmentation is inserted into, counted, planned, saved, compiled and exported."""

import pytest
import torch
from segmentation_cases import CASES, LARGE, built, image, slow

import foveate
from foveate.costs.setting import exported_step
from foveate.data import open_data
from foveate.study.plan import make_plan
from foveate.study_file import check_study
from foveate.tasks import create_task

PLANNED = ["umixformer cityscapes", "danet", "setr mla", "unet gates"]  # of every run of the tests


@pytest.fixture(scope="module")
def digits():
    spec = {"kind": "embedded", "train_items": 20, "test_items": 10}
    data = open_data(check_study({"task": "segmentation", "data": spec}).data)
    return spec, data, create_task("segmentation", data)


@pytest.mark.parametrize("case", slow(set(CASES) - set(PLANNED)))
def test_a_study_plans_it_with_attention(case, digits):
    spec, data, task = digits
    one = CASES[case]
    if one.dims == 3:
        pytest.skip("the embedded digits are images")
    study = check_study(
        {"network": one.name, "network_options": one.options, "task": "segmentation", "control": "none", "data": spec}
        | {"variants": [{"attention": "eca"}]}
    )
    assert [arm.label for arm in make_plan(study, data, task).arms] == ["none", "eca"]


@pytest.mark.parametrize("case", slow(LARGE))
def test_it_is_saved_with_its_attention(case, tmp_path):
    network, x = built(case), image(case, 37, 53, 19)
    plain = network(x)
    foveate.insert(network, "eca", at="block", example=x, init="identity")
    torch.testing.assert_close(network(x), plain)
    foveate.save(network, tmp_path / "a.safetensors")
    assert torch.equal(foveate.load(tmp_path / "a.safetensors")(x), network(x))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_it_compiles_whole_at_two_sizes(case):
    torch.compiler.reset()  # the limit of graphs is one for all networks with the same forward
    network = built(case)
    dynamic = False if case == "transunet" else None  # timm's padding of its ResNet takes minutes for sizes unknown
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for size in ((64, 64, 32), (96, 128, 48)):
        x = image(case, *size)
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), network(x))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["umixformer", "umixformer cityscapes", "segformer"])
def test_it_is_compiled_for_training(case):
    torch.compiler.reset()
    network = built(case).train()
    for module in network.modules():  # what is drawn differs in a compiled graph
        if isinstance(module, torch.nn.Dropout2d):
            module.p = 0.0
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
    x = image(case, 64, 96, count=2)
    gradients = []
    for run in (network, torch.compile(network, fullgraph=True, backend="aot_eager")):
        network.zero_grad()
        run(x).square().mean().backward()
        gradients.append({key: p.grad.clone() for key, p in network.named_parameters()})
    for key, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], gradient, rtol=1e-3, atol=1e-5, msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["umixformer", "umixformer cityscapes", "segformer"])
def test_one_exported_program_takes_two_sizes(case):
    network, x = built(case), image(case, 128, 192)
    sides = {2: torch.export.Dim("h", min=2, max=32) * 32, 3: torch.export.Dim("w", min=2, max=32) * 32}
    program = torch.export.export(network, (x,), dynamic_shapes=(sides,)).module()
    for size in ((128, 192), (256, 128)):
        x = image(case, *size)
        torch.testing.assert_close(program(x), network(x))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["umixformer", "umixformer cityscapes", "segformer"])
def test_onnxruntime_gives_its_numbers(case, tmp_path):
    network = built(case)
    for size in ((64, 96), (37, 53)):
        exported_step(case, network, image(case, *size), tmp_path)
