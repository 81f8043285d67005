"""Surveys, gathers, misfit and classical inversion; deepwave against a finite-difference scheme of thirty lines."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from foveate.waves import (
    Survey,
    check_velocities,
    data_misfit,
    gathers_of,
    normalised,
    refine,
    reflections,
    simulate,
    smoothed,
    velocities,
    with_noise,
)
from foveate.waves.misfit import misfit_of
from foveate.waves.survey import CRITICAL_COURANT

SMALL = Survey(shots=2, receivers=24, steps=240, keep=4, absorbing=10)


def blocks(size: int = 24, low: float = 2000.0, high: float = 3500.0) -> np.ndarray:
    model = np.full((size, size), low, np.float32)
    model[size // 2 :] = high
    return model


def finite_differences(velocity: np.ndarray, survey: Survey, wide: int) -> np.ndarray:
    """u_tt = v² (∇²u + f) with a Laplacian of order 4 and edges too far away to be heard, (shots, steps, receivers)."""
    v = torch.from_numpy(np.pad(velocity, wide, mode="edge")).double()
    shots, receivers = survey.places(velocity.shape[1])
    row = survey.depth + wide
    t = np.arange(survey.steps) * survey.step_s - 1.5 / survey.frequency_hz
    a = (np.pi * survey.frequency_hz * t) ** 2
    wavelet = (1 - 2 * a) * np.exp(-a)
    c = (-5 / 2, 4 / 3, -1 / 12)
    out = np.zeros((len(shots), survey.steps, len(receivers)))
    for shot, place in enumerate(shots):
        u, before = torch.zeros_like(v), torch.zeros_like(v)
        for step in range(survey.steps):
            out[shot, step] = u[row, receivers + wide].numpy()
            laplacian = 2 * c[0] * u
            for k in (1, 2):
                for axis in (0, 1):
                    laplacian = laplacian + c[k] * (u.roll(k, axis) + u.roll(-k, axis))
            force = laplacian / survey.spacing_m**2
            force[row, place + wide] -= wavelet[step]
            u, before = 2 * u - before + (v * survey.step_s) ** 2 * force, u
    return out


def test_deepwave_agrees_with_a_plain_finite_difference_scheme():
    survey = replace(SMALL, shots=1, steps=160, keep=1, absorbing=20, sign="deepwave")
    model = blocks()
    found = simulate(torch.from_numpy(model), survey).numpy()
    wanted = finite_differences(model, survey, 45)
    difference = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
    assert difference < 0.05


def test_the_two_signs_are_opposite_and_every_kept_sample_is_one_of_those_simulated():
    model = torch.from_numpy(blocks())
    whole = simulate(model, replace(SMALL, keep=1))
    torch.testing.assert_close(simulate(model, SMALL), whole[:, ::4])
    torch.testing.assert_close(simulate(model, replace(SMALL, sign="deepwave")), -whole[:, ::4])


def test_critical_courant_numbers_are_those_of_deepwave():
    discretisation = pytest.importorskip("deepwave.discretisation")
    for order, number in CRITICAL_COURANT.items():
        assert number == pytest.approx(discretisation.critical_courant_number(order, propagator="scalar"), abs=2e-3)


def test_a_time_step_that_breaks_stability_names_the_largest_allowed():
    with pytest.raises(ValueError, match=r"0\.002 s breaks stability at 4600 m/s.*largest allowed is 0\.001264 s"):
        Survey(step_s=0.002)
    assert Survey(step_s=0.00126).steps == 1000


@pytest.mark.parametrize(
    "changes", [{"shots": 0}, {"keep": True}, {"accuracy": 3}, {"sign": "up"}, {"spacing_m": -1.0}]
)
def test_a_survey_that_cannot_be_is_refused(changes):
    with pytest.raises(ValueError, match=f"survey: {next(iter(changes))}: wanted"):
        Survey(**changes)


def test_simulating_refuses_models_that_the_survey_is_not_for():
    with pytest.raises(ValueError, match=r"up to fastest_m_s = 4600 m/s; got 2000 to 5000"):
        simulate(torch.from_numpy(blocks(high=5000)), SMALL)
    with pytest.raises(ValueError, match=r"at most 20 receivers, one a column of the model; got 24"):
        simulate(torch.from_numpy(blocks(20)), SMALL)


def test_without_deepwave_the_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "deepwave", None)
    with pytest.raises(ValueError, match=r'needs deepwave .*pip install "foveate\[fwi\]"'):
        simulate(torch.from_numpy(blocks()), SMALL)


def test_gathers_are_kept_and_a_longer_set_begins_with_the_blocks_of_a_shorter(tmp_path, monkeypatch):
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path))
    survey = replace(SMALL, steps=40)
    models = np.stack([blocks(low=2000 + 10 * n) for n in range(18)])
    told = []
    first = gathers_of(models[:16], survey, progress=lambda *one: told.append(one), workers=1)
    assert told == [(0, 16), (16, 16)]
    kept = first.files[0].stat().st_mtime_ns
    more = gathers_of(models, survey, workers=1)
    assert more.files[0] == first.files[0]
    assert more.files[0].stat().st_mtime_ns == kept  # a killed run goes on from its blocks
    assert more[np.array([17, 3])].shape == (2, *survey.shape)
    with torch.inference_mode():
        wanted = simulate(torch.from_numpy(models[17]), survey).numpy()
    np.testing.assert_allclose(more[np.array([17])][0], wanted, rtol=2e-3, atol=1e-3)
    assert gathers_of(models[:16], replace(survey, frequency_hz=12.0), workers=1).files[0] != first.files[0]


@pytest.mark.slow
def test_processes_give_what_one_process_gives(tmp_path, monkeypatch):
    models = np.stack([blocks(low=2000 + 10 * n) for n in range(20)])
    found = []
    for workers in (1, 2):
        monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / str(workers)))
        found.append(gathers_of(models, SMALL, workers=workers)[np.arange(20)])
    np.testing.assert_array_equal(*found)


def test_misfit_is_0_for_the_gathers_themselves_and_1_for_silence():
    gathers = simulate(torch.from_numpy(blocks()), SMALL)
    same, silent = (misfit_of(one, gathers, SMALL, 24) for one in (gathers, torch.zeros_like(gathers)))
    assert (same.full, same.muted) == (0, 0)
    assert silent.full == pytest.approx(1)
    assert silent.muted == pytest.approx(1)


def test_muting_leaves_what_comes_after_the_direct_wave():
    survey = Survey()
    later = survey.after_direct_wave(70)
    shots, receivers = survey.places(70)
    for shot, receiver in ((0, 0), (2, 60), (4, 10)):
        offset = 10 * abs(int(shots[shot]) - int(receivers[receiver]))
        first = int(later[shot, :, receiver].argmax())
        assert first * survey.sample_s == pytest.approx(offset / 1800 + 0.2, abs=1.01 * survey.sample_s)


def test_noise_has_the_ratio_to_the_reflections_that_is_said():
    gathers = simulate(torch.from_numpy(blocks()), SMALL).numpy()[None]
    strength = reflections(gathers, SMALL, 24)
    noise = np.random.default_rng(0).standard_normal(gathers.shape, np.float32)
    added = with_noise(gathers, np.array([20.0]), strength, noise) - gathers
    assert 20 * np.log10(strength[0] / added.std()) == pytest.approx(20, abs=0.3)


def test_inversion_repairs_the_fit_and_says_whether_the_model_improved():
    truth = blocks(high=2400)
    start = smoothed(truth, 3.0)
    with torch.inference_mode():
        observed = simulate(torch.from_numpy(truth), SMALL.observing)
    found = refine(start, observed.clone(), SMALL, iterations=4, frequencies_hz=(8.0, 15.0), truth=truth)
    assert found.after.misfit.muted < 0.9 * found.before.misfit.muted
    assert len(found.losses) == 8
    assert found.before.error_m_s == pytest.approx(float(np.abs(start - truth).mean()))
    np.testing.assert_array_equal(found.model[:3], start[:3])
    better = found.after.error_m_s < 0.98 * found.before.error_m_s
    assert found.sentence.endswith(
        "both the data fit and the model improved" if better else "only the data fit improved, not the model"
    )
    alone = refine(start, observed.clone(), SMALL, iterations=1, frequencies_hz=(15.0,))
    assert alone.sentence.endswith("the true model is not known")
    with pytest.raises(ValueError, match=r"frequencies_hz above 0 and up to the survey's 15; got \[20\.0\]"):
        refine(start, observed, SMALL, frequencies_hz=[20.0])
    with pytest.raises(ValueError, match=r"wanted 60 samples; got 30"):
        data_misfit(start, observed[:, :30], SMALL)


def test_scaling_depends_on_no_model():
    v = np.array([1500.0, 3000.0, 4500.0])
    np.testing.assert_array_equal(normalised(v), [-1, 0, 1])
    np.testing.assert_array_equal(velocities(normalised(v)), v)


@pytest.mark.parametrize(
    ("model", "line"),
    [
        (
            blocks() / 1000,
            r"wanted velocities in m/s; got 2 to 3.5 in model 0; are they in km/s\? Then say unit = 'km/s'",
        ),
        (blocks(high=7000), r"wanted velocities of 1000 to 6000 m/s; got 2000 to 7000 in model 0"),
        (blocks(high=np.nan), r"wanted finite velocities; got NaN or infinity in model 0"),
    ],
)
def test_velocities_that_cannot_be_are_refused(model, line):
    with pytest.raises(ValueError, match=line):
        check_velocities(model[None], "a.npy")
