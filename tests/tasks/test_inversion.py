"""Inversion: losses, scores in m/s, baselines, and one study from the data to the page."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import foveate
from foveate.data import open_data
from foveate.data.seismic import make_salt
from foveate.report import write_report
from foveate.spec import DataSpec, Study
from foveate.study.evaluation import evaluate_run
from foveate.study.predict import of_run, predict_files
from foveate.study.refinement import refine_run
from foveate.tasks import create_task
from foveate.tasks.gate_energy import GateEnergy, gate_energies, gates_sentence
from foveate.tasks.losses import read_loss
from foveate.tasks.velocity_losses import LOSSES, ssim, velocity_losses
from foveate.tasks.velocity_scores import near_boundary, velocity_metrics, velocity_scores
from foveate.waves import Survey, normalised

SURVEY = {"shots": 2, "steps": 160, "absorbing": 8}
SPEC = {"kind": "seismic", "source": "embedded", "size": [24, 24], "train_items": 20, "test_items": 12}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(cache, monkeypatch):
    monkeypatch.setenv("FOVEATE_CACHE", str(cache))


def data():
    return open_data(DataSpec(**SPEC, options={"survey": SURVEY}))


class Constant(nn.Module):
    """Gives one velocity everywhere."""

    def __init__(self, velocity):
        super().__init__()
        self.value = nn.Parameter(normalised(torch.tensor(velocity)))

    def forward(self, x):
        return self.value.expand(len(x), 1, 24, 24)


def test_scores_are_those_of_the_definitions():
    wanted = torch.full((2, 8, 8), 2000.0)
    wanted[0, 4:] = 4500
    found = wanted.clone()
    found[0, 4:6] = 4100  # half of the salt is not seen
    found[1, 0, 0] = 4300  # salt where none is
    names = ("none", "dome")
    metrics = velocity_metrics(names, salt=True)
    scores = velocity_scores(found, wanted, metrics, np.array([1, 0]), names)
    values = scores.values
    assert values["MAE"] == pytest.approx((16 * 400 + 2300) / 128)
    assert values["RMSE"] == pytest.approx(((16 * 400**2 + 2300**2) / 128) ** 0.5)
    assert values["salt IoU"] == pytest.approx(0.5)
    assert values["MAE in salt"] == pytest.approx(200)
    assert values["MAE out of salt"] == pytest.approx(2300 / 96)
    assert values["relative error in salt"] == pytest.approx(200 / 4500)
    assert values["false salt"] == pytest.approx(1 / 64)
    assert values["MAE of dome"] == pytest.approx(16 * 400 / 64)
    assert values["MAE without salt"] == pytest.approx(2300 / 64)
    assert values["MAE at depth 50-75 %"] == pytest.approx(16 * 400 / 32)
    assert values["MAE at salt boundary"] == pytest.approx(16 * 400 / 32)  # rows 2 to 5
    assert set(values) == {metric.name for metric in metrics}
    assert np.isnan(scores.items["salt IoU"][1])
    alone = velocity_scores(found[1:], wanted[1:], metrics, np.array([0]), names).values
    assert alone["false salt"] == pytest.approx(1 / 64)
    assert np.isnan([alone["salt IoU"], alone["MAE of dome"], alone["MAE in salt"]]).all()
    perfect = velocity_scores(wanted, wanted, metrics, np.array([1, 0]), names).values
    assert (perfect["MAE"], perfect["SSIM"], perfect["salt IoU"]) == (0, pytest.approx(1), 1)


def test_sums_of_items_make_the_metrics_of_the_set_again():
    from foveate.study.analyse.remade import of_sums

    torch.manual_seed(0)
    wanted = torch.rand(6, 12, 12) * 3000 + 1500
    found = wanted + torch.randn(6, 12, 12) * 300
    metrics = velocity_metrics((), salt=True)
    scores = velocity_scores(found, wanted, metrics, None, ())
    for name in ("RMSE", "MAE in salt", "MAE at depth 0-25 %"):
        sums = {key.removeprefix(f"{name}."): v for key, v in scores.items.items() if key.startswith(f"{name}.")}
        assert of_sums(sums).value(np.ones((1, 6)))[0] == pytest.approx(scores.values[name], rel=1e-6)


def test_the_boundary_of_salt_is_two_cells_to_either_side():
    mask = torch.zeros(1, 9, 9, dtype=torch.bool)
    mask[0, 4:] = True
    assert near_boundary(mask)[0, :, 0].nonzero().flatten().tolist() == [2, 3, 4, 5]


def test_losses_weigh_salt_and_edges_twice_and_sum_with_weights():
    wanted = normalised(torch.full((1, 1, 12, 12), 2000.0))
    wanted[..., 6:, :] = normalised(torch.tensor(4500.0))
    found = wanted + 0.1
    losses = velocity_losses(found, wanted, read_loss({"l1": 1, "l2": 1, "ssim": 0.1, "edge": 1, "salt": 1}, LOSSES))
    assert losses["l1"].item() == pytest.approx(0.1, abs=1e-6)
    assert losses["l2"].item() == pytest.approx(0.01, abs=1e-6)
    assert losses["salt"].item() == pytest.approx(0.15, abs=1e-6)  # half of the cells
    assert losses["edge"].item() == pytest.approx(0.1 * 15 / 12, abs=1e-6)  # rows 4 to 6, within a cell of the jump
    assert 0 < losses["ssim"].item() < 0.2
    assert ssim(wanted, wanted).item() == pytest.approx(1, abs=1e-5)
    with pytest.raises(ValueError, match="did you mean 'ssim'"):
        read_loss({"ssimm": 1}, LOSSES)


def test_baselines_are_the_mean_model_and_the_nearest_neighbours():
    task = create_task("inversion", data())
    words, mean = task.baseline()
    velocity = task.data.train.models.mean(0)
    assert words == "the mean of the training models"
    assert mean["MAE"] == pytest.approx(float(np.abs(task.data.test.models - velocity).mean()), rel=1e-4)
    ((words, near),) = task.further_baselines().items()
    assert "5 training models" in words
    x = task.data.train.batch(range(20), None).inputs[:, :, ::2, ::2].flatten(1)
    y = task.data.test.batch(range(12), None).inputs[:, :, ::2, ::2].flatten(1)
    nearest = torch.cdist(y, x).topk(5, largest=False).indices.numpy()
    wanted = np.abs(task.data.train.models[nearest].mean(1) - task.data.test.models).mean()
    assert near["MAE"] == pytest.approx(float(wanted), rel=1e-4)


def test_a_network_of_another_size_is_refused_with_the_option_that_helps():
    task = create_task("inversion", data())
    with pytest.raises(ValueError, match=r"networks of ours take out = \[24, 24\]"):
        task.check(foveate.create_network("salt_unet", in_channels=2, width=4), task.data.train.batch([0, 1], None))
    meter = task.meter()
    with torch.inference_mode():
        meter.update(Constant(3000.0), task.data.test.batch(range(12), None))
    assert meter.scores().values["MAE"] == pytest.approx(float(np.abs(task.data.test.models - 3000).mean()), rel=1e-5)


class Looking(nn.Module):
    """Gates its input by a map that is twice as large where salt is."""

    def __init__(self, weight):
        super().__init__()
        self.gate = foveate.create_attention("attention_gate", 1, sub_sample=1)
        self.weight = weight

    def forward(self, x):
        from foveate.attention._capture import record

        record(self.gate, spatial=1 + self.weight * (x[:, 0] > 0))
        return x


def test_energy_of_gates_in_salt_is_compared_with_its_area():
    from foveate.data.dataset import Batch

    velocity = torch.full((4, 1, 8, 8), 2000.0)
    velocity[:3, :, 4:, :4] = 4500  # a quarter of three models, none in the fourth
    x = (velocity > 4200).float()
    (found,) = gate_energies(Looking(1.0).eval(), [Batch(x, {"velocity": velocity}, torch.arange(4))])
    assert (found.site, len(found.energy)) == ("gate", 3)
    np.testing.assert_allclose(found.energy, 4 * 16 / (4 * 16 + 48))
    np.testing.assert_allclose(found.area, 0.25)
    (blind,) = gate_energies(Looking(0.0).eval(), [Batch(x, {"velocity": velocity}, torch.arange(4))])
    assert blind.excess[0] == pytest.approx(0)
    few = GateEnergy("decoder.0", np.array([0.2, 0.4, 0.3]), np.array([0.1, 0.1, 0.1]))
    mean, low, high = few.excess
    assert mean == pytest.approx(0.2)
    assert high - low == pytest.approx(2 * 4.303 * 0.1 / 3**0.5)
    assert few.text == "decoder.0 +20.0 (-4.8 to +44.8)"
    assert "10.0 %, in points, over 3 models" in gates_sentence([few])


def test_a_study_goes_from_gathers_to_the_page_and_its_network_predicts_and_refines(tmp_path):
    study = Study(
        network="foveate:salt_unet",
        network_options={"width": 4, "depth": 2, "out": [24, 24]},
        task="inversion",
        task_options={"loss": {"l1": 1, "ssim": 0.1}},
        data={**SPEC, "options": {"survey": SURVEY}},
        train={"epochs": 1, "batch_size": 10, "optimizer": "adamw", "lr": 0.003},
        variants=[{"network_options": {"attention": "attention_gate", "at": ["skip"]}, "label": "gates"}],
        robustness={"corruptions": ["seismic_noise", "gain"], "severities": [2], "items": 4},
        seeds=[0],
        control="none",
    )
    out = tmp_path / "study"
    summary = foveate.run_study(study, out)
    names = [metric.name for metric in summary.metrics]
    assert names[:4] == ["MAE", "RMSE", "SSIM", "salt IoU"]
    assert {arm.label for arm in summary.arms} == {"none", "gates"}
    page = write_report(summary, tmp_path / "report").read_text(encoding="utf-8")
    assert "Baseline, the mean of the training models: MAE" in page
    assert "Baseline, the mean of the 5 training models with the nearest gathers: MAE" in page
    assert "gates: energy of the gates in the salt less its share of the area" in page
    assert "seismic noise" in page
    folders = sorted((out / "runs").glob("*/examples.png"))
    assert len(folders) == 2
    assert all((folder.parent / "mistakes.png").is_file() for folder in folders)

    make_salt(tmp_path / "seg", 4, test_models=4, style="seg", size=(24, 24), survey=Survey(receivers=24, **SURVEY))
    other = evaluate_run(f"{out}:gates:0", str(tmp_path / "seg"))
    assert other.data.test.scaling == data().test.scaling  # that of the network's own training part
    assert other.scores.values["MAE"] > 0
    np.save(tmp_path / "one.npy", np.zeros((2, 160, 24), np.float32))
    (row,) = predict_files(of_run(f"{out}:none:0"), tmp_path / "one.npy", masks=tmp_path / "found")
    assert set(row) == {"file", "slowest m/s", "mean m/s", "fastest m/s", "share of salt"}
    assert np.load(tmp_path / "found" / "one.npy").shape == (24, 24)
    (refined,) = refine_run(f"{out}:none:0", [1], iterations=1, frequencies_hz=[15.0])
    assert set(refined.starts) == {"network", "smooth"}
    assert refined.of_truth.full < 0.1
    assert json.loads(json.dumps(refined.row()))["network"]["sentence"]
