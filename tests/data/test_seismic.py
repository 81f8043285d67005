"""Kind "seismic": the generator's statistics, the folder that it writes, published formats, and what is refused."""

import zipfile

import numpy as np
import pytest
import torch

from foveate.data import inspect_data, open_data
from foveate.data.corruption import corrupted_split
from foveate.data.seismic import make_salt, salt_models
from foveate.data.seismic.salt import KINDS, SHARES
from foveate.spec import DataSpec
from foveate.waves import Survey, reflections, simulate

SURVEY = {"shots": 2, "steps": 320, "absorbing": 10}
SMALL = Survey(receivers=24, **SURVEY)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for the module, so that the same models are simulated once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(cache, monkeypatch):
    monkeypatch.setenv("FOVEATE_CACHE", str(cache))


def opened(source="embedded", **options):
    spec = {"train_items": 6, "test_items": 3, "size": [24, 24]} if source == "embedded" else {}
    if source == "embedded":
        options = {"survey": SURVEY, **options}
    return open_data(DataSpec(kind="seismic", source=str(source), options=options, **spec))


@pytest.fixture(scope="module")
def some():
    """Six models and their gathers as OpenFWI has them, every simulated sample."""
    models = salt_models(6, size=(24, 24)).velocity
    with torch.inference_mode():
        gathers = [simulate(torch.from_numpy(one), SMALL, every=1).numpy() for one in models]
    return models, np.stack(gathers)


def write(folder, models, gathers=None, number=1, part="train"):
    (folder / part).mkdir(parents=True, exist_ok=True)
    np.save(folder / part / f"model{number}.npy", models[:, None])
    if gathers is not None:
        np.save(folder / part / f"data{number}.npy", gathers)


@pytest.fixture
def folder(tmp_path, some):
    models, gathers = some
    write(tmp_path, models[:4], gathers[:4])
    write(tmp_path, models[4:], gathers[4:], part="test")
    return tmp_path


# the generator


@pytest.mark.parametrize("style", ["layered", "seg"])
def test_generated_models_have_the_statistics_that_are_said(style):
    made = salt_models(300, style=style)
    shares = np.bincount(made.kind, minlength=len(KINDS)) / 300
    assert np.abs(shares - SHARES).max() < 0.06
    area = made.mask.mean((1, 2))[made.kind > 0]
    assert 0.08 < np.median(area) < 0.2
    assert area.min() > 0.01
    assert area.max() < 0.5
    assert not made.mask[:, :8].any()  # nothing of the salt above row 8
    assert not made.mask[made.kind == 0].any()
    assert made.velocity[made.mask].min() >= 4450
    assert made.velocity[made.mask].max() <= 4550
    assert made.velocity[~made.mask].max() <= 3900
    centres = [mask.any(0).nonzero()[0].mean() / 70 for mask in made.mask[made.kind > 0]]
    assert np.std(centres) > 0.12  # salt is not always in the middle
    down = made.velocity.mean((0, 2))
    assert down[-5:].mean() > down[:5].mean() + 1000
    assert made.velocity.min() == 1500 if style == "seg" else made.velocity.min() >= 1800


def test_the_mean_model_is_as_far_off_as_was_measured():
    train, test = salt_models(300), salt_models(100, part="test")
    errors = np.abs(test.velocity - train.velocity.mean(0))
    assert errors.mean() == pytest.approx(381, abs=25)
    assert errors[test.mask].mean() == pytest.approx(977, abs=60)


def test_layers_without_salt_are_sorted_and_five_to_ten():
    made = salt_models(60)
    for model in made.velocity[made.kind == 0]:
        assert 5 - 2 <= len(np.unique(model)) <= 10  # the deepest may lie below the model
        assert (np.diff(model, axis=0) >= 0).mean() > 0.95  # but where a fault repeats a layer


def test_a_model_does_not_depend_on_how_many_there_are():
    np.testing.assert_array_equal(salt_models(3).velocity, salt_models(5).velocity[:3])
    assert (salt_models(3, seed=1).velocity != salt_models(3).velocity).any()
    with pytest.raises(ValueError, match="style: wanted 'layered' or 'seg'; got 'flat'"):
        salt_models(1, style="flat")


# batches


def test_a_mirrored_sample_is_the_gathers_of_the_mirrored_model():
    split = opened(noise_db=[]).train
    plain = split.batch(range(6), None)
    turned = split.batch(range(6), (0, 1))
    seen = set()
    for item in range(6):
        mirrored = torch.equal(turned.targets["velocity"][item], plain.targets["velocity"][item].flip(2))
        seen.add(mirrored)
        if not mirrored:
            assert torch.equal(turned.inputs[item], plain.inputs[item])
            continue
        assert torch.equal(turned.inputs[item], plain.inputs[item].flip(0, 2))
        model = turned.targets["velocity"][item, 0]
        with torch.inference_mode():
            again = torch.from_numpy(split.scaling(simulate(model, split.survey).numpy()))
        assert (again - turned.inputs[item]).norm() < 0.02 * again.norm()
    assert seen == {True, False}


def test_noise_is_added_in_training_alone_and_by_seed_epoch_and_item():
    split = opened(mirror=False, noise_db=[10, 10]).train
    clean = split.batch([0, 1], None).inputs
    noisy = split.batch([0, 1], (0, 1)).inputs
    assert torch.equal(noisy, split.batch([1, 0], (0, 1)).inputs.flip(0))
    assert not torch.equal(noisy, split.batch([0, 1], (0, 2)).inputs)
    linear = opened(mirror=False, noise_db=[10, 10], scale="linear").train
    added = (linear.batch([0], (0, 1)).inputs - linear.batch([0], None).inputs)[0] * linear.scaling.deviation
    strength = reflections(linear.gathers[np.array([0])], linear.survey, 24)[0]
    assert 20 * np.log10(strength / added.std().item()) == pytest.approx(10, abs=0.3)
    assert not torch.equal(clean, noisy)


def test_scaling_is_that_of_the_training_part():
    data = opened()
    values = data.train.batch(range(6), None).inputs
    assert values.std() == pytest.approx(1, abs=1e-3)
    assert data.train.scaling == data.test.scaling
    raw = data.test.gathers[np.array([0])]
    wanted = np.sign(raw) * np.log1p(np.abs(raw)) / data.train.scaling.deviation
    np.testing.assert_allclose(data.test.batch([0], None).inputs.numpy(), wanted, rtol=1e-5)


def test_corruptions_of_gathers_are_what_their_names_say():
    split = opened(scale="linear").test
    clean = split.batch([0], None)

    def corrupted(name, severity):
        found = corrupted_split(split, name, severity, 0).batch([0], None)
        assert torch.equal(found.targets["velocity"], clean.targets["velocity"])
        assert torch.equal(found.inputs, corrupted_split(split, name, severity, 0).batch([0], None).inputs)
        return found.inputs[0]

    before = clean.inputs[0]
    assert (corrupted("dead_receivers", 3) == 0).all(1).all(0).sum() == round(0.2 * 24)
    assert (corrupted("missing_shot", 1) == 0).all(2).all(1).sum() == 1
    ratio = (corrupted("gain", 2) / before)[before.abs() > 0.1]
    assert ratio.mean().item() == pytest.approx(1.2, abs=1e-3) or ratio.mean().item() == pytest.approx(
        1 / 1.2, abs=1e-3
    )
    shifted = corrupted("time_shift", 2)
    assert torch.equal(shifted[:, 2:], before[:, :-2]) or torch.equal(shifted[:, :-2], before[:, 2:])
    errors = [(corrupted("seismic_noise", level) - before).std() for level in (1, 2, 3)]
    assert errors[1] / errors[0] == pytest.approx(10**0.5, rel=0.05)
    assert errors[2] / errors[1] == pytest.approx(10**0.5, rel=0.05)


# folders


def test_a_written_folder_is_read_as_the_generated_set(tmp_path):
    line = make_salt(tmp_path / "salt", 6, test_models=3, size=(24, 24), survey=SMALL)
    assert "6 train and 3 test models of 24×24 cells, style layered" in line
    data, generated = opened(tmp_path / "salt"), opened()
    for part in ("train", "test"):
        mine, other = (getattr(one, part).batch(range(3), None) for one in (data, generated))
        assert torch.equal(mine.inputs, other.inputs)
        assert torch.equal(mine.targets["velocity"], other.targets["velocity"])
        assert torch.equal(mine.targets["kind"], other.targets["kind"])
    found = inspect_data(str(tmp_path / "salt"), task="inversion")
    assert (found.kind, found.serious) == ("seismic", 0)
    with pytest.raises(ValueError, match=r"wanted an empty or a new folder; got one with files"):
        make_salt(tmp_path / "salt", 6)
    (tmp_path / "salt" / "train" / "models.npy").unlink()
    with pytest.raises(ValueError, match=r"wanted a folder of foveate data make salt"):
        opened(tmp_path / "salt")


def test_openfwi_s_files_are_read_with_their_gathers(folder, some):
    data = opened(folder, survey=SURVEY)
    models, gathers = some
    assert (len(data.train), len(data.test), data.inputs) == (4, 2, (2, 80, 24))
    np.testing.assert_array_equal(data.train.batch([3], None).targets["velocity"][0, 0].numpy(), models[3])
    np.testing.assert_array_equal(data.train.gathers[np.array([2])][0], gathers[2][:, ::4])
    assert data.about["gathers"] == "as stored"
    assert data.notes == ()
    assert set(data.targets) == {"velocity"}
    again = opened(folder, survey={**SURVEY}, sign="openfwi")
    assert again.fingerprint == data.fingerprint


def test_zipped_models_without_gathers_are_simulated(tmp_path, some):
    for part, models in (("train", some[0][:4]), ("test", some[0][4:])):
        np.save(tmp_path / "vmodel1.npy", models[:, None])
        with zipfile.ZipFile(tmp_path / f"Curve_{part}.zip", "w") as archive:
            archive.write(tmp_path / "vmodel1.npy", "vmodel1.npy")
        (tmp_path / "vmodel1.npy").unlink()
    (tmp_path / "Flat_train.zip").write_bytes(b"no zip")
    data = opened(tmp_path, files="Curve*", survey=SURVEY)
    assert (len(data.train), len(data.test)) == (4, 2)
    assert data.test.name_of(1) == "Curve_test.zip/vmodel1.npy:1"
    generated = opened(noise_db=[])
    assert torch.equal(
        data.train.batch([1], None).targets["velocity"], generated.train.batch([1], None).targets["velocity"]
    )
    np.testing.assert_array_equal(data.train.gathers[np.array([1])], generated.train.gathers[np.array([1])])
    with pytest.raises(ValueError, match=r"Flat_train.zip: wanted a zip of .npy files"):
        opened(tmp_path)


def test_real_openfwi_models_are_read_out_of_their_zips(shared):
    from foveate.data.seismic.sets import read_folder

    read = read_folder(shared / "data" / "velocity_openfwi", "CurveVelA_test*", "m/s", "zx", "openfwi", Survey)
    assert read.models["test"].shape == (1000, 70, 70)
    assert (read.models["test"].min(), read.models["test"].max()) == (1500, 4500)
    assert read.gathers == {}


def test_matlab_files_of_fcnvmb_are_read(tmp_path, some):
    from scipy.io import savemat

    models, gathers = some
    for part, items in (("train", range(3)), ("test", range(3, 5))):
        for item in items:
            (tmp_path / part).mkdir(exist_ok=True)
            savemat(tmp_path / part / f"vmodel{item}.mat", {"vmodel": models[item]})
            savemat(tmp_path / part / f"georec{item}.mat", {"Rec": gathers[item].transpose(1, 2, 0)})
    survey = {**SURVEY, "keep": 4, "frequency_hz": 15.0}
    data = opened(tmp_path, survey=survey)
    assert (len(data.train), data.test.name_of(0)) == (3, "test/vmodel3.mat")
    np.testing.assert_array_equal(data.test.gathers[np.array([1])][0], gathers[4][:, ::4])
    (tmp_path / "train" / "vmodel0.mat").write_bytes(b"MATLAB 7.3 MAT-file" + b" " * 105 + b"\x00\x02IM" + b"\0" * 400)
    with pytest.raises(ValueError, match=r"vmodel0.mat: is a MATLAB file of version 7.3; wanted version 5 to 7"):
        opened(tmp_path, survey=survey)
    savemat(tmp_path / "train" / "vmodel0.mat", {"velocity": models[0]})
    with pytest.raises(ValueError, match=r"vmodel0.mat: wanted the variable 'vmodel' or 'svmodel'; got velocity"):
        opened(tmp_path, survey=survey)


def test_segy_files_are_read(tmp_path, some):
    segyio = pytest.importorskip("segyio")
    models, gathers = some

    def write_segy(path, traces, records, step_us):
        path.parent.mkdir(parents=True, exist_ok=True)
        spec = segyio.spec()
        spec.samples, spec.format, spec.tracecount = np.arange(traces.shape[1]) * step_us / 1000, 5, len(traces)
        with segyio.create(str(path), spec) as file:
            for number, trace in enumerate(traces):
                file.trace[number] = np.ascontiguousarray(trace)
                file.header[number] = {segyio.TraceField.FieldRecord: int(records[number])}

    for part, items in (("train", range(3)), ("test", range(3, 5))):
        for item in items:
            write_segy(tmp_path / part / "models" / f"{item}.sgy", models[item].T, np.zeros(24), 1000)
            traces = gathers[item].transpose(0, 2, 1).reshape(-1, 320)
            write_segy(tmp_path / part / "gathers" / f"{item}.sgy", traces, np.repeat([7, 9], 24), 1000)
    data = opened(tmp_path, survey=SURVEY)
    np.testing.assert_array_equal(data.train.models, models[:3])
    np.testing.assert_array_equal(data.train.gathers[np.array([1])][0], gathers[1][:, ::4])


# what is refused


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda m, g: (m, g[:, :1]), r"data1.npy: axis shots: wanted 2; got 1"),
        (lambda m, g: (m, g[:, :, :300]), r"data1.npy: axis samples: wanted 320 \(or every 4th, 80\); got 300"),
        (lambda m, g: (m, g[..., :20]), r"data1.npy: axis receivers: wanted 24; got 20"),
        (lambda m, g: (m, g[:3]), r"data1.npy: axis models: wanted 4; got 3"),
        (
            lambda m, g: (m, np.where(np.arange(24) == 5, np.nan, g)),
            r"got NaN or infinity in item 0, shot 0, receiver 5",
        ),
        (lambda m, g: (m * 3, g), r"model1.npy: wanted velocities of 1000 to 6000 m/s; got"),
        (lambda m, g: (m / 1000, g), r"are they in km/s\? Then say unit = 'km/s'"),
        (
            lambda m, g: (m[::-1], g),
            r"model1.npy:0: belongs to the gathers of item 3 .* models and gathers are not in one",
        ),
        (lambda m, g: (m.transpose(0, 2, 1), g), r"the model with depth and x swapped; say axes = 'xz' if models are"),
        (lambda m, g: (m, -g), r"have the opposite sign of those simulated here; say sign = 'deepwave'"),
    ],
)
def test_what_does_not_belong_together_is_refused_in_one_line(folder, some, change, line):
    models, gathers = some
    write(folder, *change(models[:4], gathers[:4]))
    with pytest.raises(ValueError, match=line) as error:
        opened(folder, survey=SURVEY)
    assert "\n" not in str(error.value)


def test_what_an_error_advises_helps(folder, some):
    models, gathers = some
    plain = opened(folder, survey=SURVEY)
    wanted = plain.train.batch([0], None).inputs
    for part, items in (("train", slice(0, 4)), ("test", slice(4, 6))):
        write(folder, models[items].transpose(0, 2, 1) / 1000, -gathers[items], part=part)
    data = opened(folder, survey=SURVEY, axes="xz", unit="km/s", sign="deepwave")
    np.testing.assert_allclose(data.train.models, plain.train.models, rtol=1e-6)
    torch.testing.assert_close(data.train.batch([0], None).inputs, wanted)
    with pytest.raises(ValueError, match=r"as if depth and x were swapped; say axes = 'xz' if they are"):
        opened(folder, survey=SURVEY, unit="km/s", sign="deepwave")


def test_a_file_without_its_counterpart_and_gathers_of_another_survey_are_told(folder):
    data = opened(folder, survey={**SURVEY, "frequency_hz": 30.0})
    assert "its reflections are unlike those simulated here" in data.notes[0]
    (folder / "train" / "data1.npy").rename(folder / "train" / "data2.npy")
    with pytest.raises(ValueError, match=r"train/model1.npy: wanted gathers of the same number, '1'"):
        opened(folder, survey=SURVEY)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"style": "folded"}, "style: wanted 'layered' or 'seg'; got 'folded'"),
        ({"scale": "root"}, "scale: wanted 'log' or 'linear'; got 'root'"),
        ({"noise_db": [40, 5]}, "noise_db: wanted the lowest and the highest"),
        ({"survey": {"step_s": 0.01}}, "the largest allowed is"),
        ({"unit": "km/s"}, "unit: goes with a folder of models"),
    ],
)
def test_options_that_cannot_be_are_refused(options, line):
    with pytest.raises(ValueError, match=line):
        opened(**options)
    with pytest.raises(TypeError, match="survey has no option 'shot'; did you mean 'shots'"):
        opened(survey={"shot": 1})


def test_gathers_in_a_file_become_a_sample(tmp_path, some):
    split = opened().test
    np.save(tmp_path / "one.npy", some[1][0])
    torch.testing.assert_close(split.prepare(tmp_path / "one.npy"), torch.from_numpy(split.scaling(some[1][0][:, ::4])))
    np.save(tmp_path / "one.npy", some[1][0][:1])
    with pytest.raises(ValueError, match=r"one.npy: wanted 2 shots; got 1"):
        split.prepare(tmp_path / "one.npy")


def test_a_folder_without_parts_is_divided_and_a_subset_keeps_the_kinds(tmp_path, some):
    write(tmp_path, some[0], some[1], part="set")
    data = open_data(DataSpec(kind="seismic", source=str(tmp_path), options={"survey": SURVEY}, test_fraction=0.34))
    assert (len(data.train), len(data.test)) == (4, 2)
