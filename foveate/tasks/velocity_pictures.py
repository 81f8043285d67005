"""Velocity models as pictures: true, predicted, their difference, gathers, a profile down the middle of the salt."""

import importlib.util
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from foveate.tasks.pictures import Picture, captioned
from foveate.waves import SALT_M_S, Survey, data_misfit, simulate

HIGH = 150  # pixels of a panel
BRIGHT = 90  # percentile of a gather that is white; the direct wave is far above
SLOWEST, FASTEST = 1500.0, 4500.0  # m/s, ends of the colours
MOST_M_S = 1500.0  # of a difference with the full colour
_ANCHORS = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], float)  # viridis
SLOWER, FASTER = np.array([0, 114, 178.0]), np.array([230, 159, 0.0])  # blue and orange of Okabe and Ito
TRUE, FOUND = (0, 158, 115), (213, 94, 0)

Field = NDArray[np.float32]


def compared(true: Field, found: Field | None, gathers: Field) -> Picture:
    """True model, and of a network its model, the difference and a profile; then a gather as the network sees it."""
    panels = [captioned(_large(_coloured(true)), "true")]
    if found is not None:
        error = float(np.abs(found - true).mean())
        panels += [captioned(_large(_coloured(found)), f"network, MAE {error:.0f}")]
        panels += [captioned(_large(_difference(found - true)), "network minus true")]
        panels += [captioned(_profile(true, found), "depth profile")]
    panels.append(captioned(_large(_grey(gathers)), "gather"))
    return _row(panels)


def with_physics(true: Field, found: Field, survey: Survey | None) -> Picture:
    """The same with the middle gather of both models and its difference, and how well the data are fitted."""
    error = float(np.abs(found - true).mean())
    panels = [
        captioned(_large(_coloured(true)), "true"),
        captioned(_large(_coloured(found)), f"network, MAE {error:.0f}"),
    ]
    panels += [captioned(_large(_difference(found - true)), "network minus true")]
    panels += [captioned(_profile(true, found), "depth profile")]
    if survey is None or importlib.util.find_spec("deepwave") is None:
        return _row(panels)
    fastest = max(survey.fastest_m_s, float(true.max()))
    within = np.clip(found, 500, survey.fastest_m_s)
    exact = replace(survey.observing, fastest_m_s=fastest)
    with torch.inference_mode():
        observed = simulate(torch.from_numpy(true), exact)
        own = simulate(torch.from_numpy(within), survey)
    misfit = data_misfit(within, observed, survey)
    shot = survey.shots // 2
    scale = float(np.percentile(np.abs(observed[shot].numpy()), BRIGHT)) or 1.0
    names = (
        "gather of the true model",
        f"of the network's; misfit {misfit.full:.2f}",
        f"difference; muted {misfit.muted:.2f}",
    )
    for name, one in zip(names, (observed[shot], own[shot], own[shot] - observed[shot]), strict=True):
        panels.append(captioned(_large(_grey(one.numpy(), scale), 190), name))
    return _row(panels)


def cut_of_gathers(gathers: Field) -> Field:
    """The middle one of the shots."""
    return gathers[len(gathers) // 2]


def grey_gathers(gathers: Field) -> list[Picture]:
    """Of (N, shots, samples, receivers) the middle shot in grey."""
    return [_large(_grey(cut_of_gathers(one))) for one in gathers]


def grey_models(models: Field) -> list[Picture]:
    """Of (N, H, W), m/s, each in grey, faster lighter."""
    found = []
    for one in models:
        pixels = np.clip((one - SLOWEST) / (FASTEST - SLOWEST) * 200, 0, 200).astype(np.uint8)
        found.append(_large(np.repeat(pixels[..., None], 3, 2)))
    return found


def legend(wide: int) -> Picture:
    """The colours of velocities and of differences."""
    image = Image.new("RGB", (wide, 40), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(13)
    ramp = np.linspace(SLOWEST, FASTEST, 160, dtype=np.float32)[None].repeat(12, 0)
    image.paste(Image.fromarray(_coloured(ramp)), (4, 4))
    draw.text((170, 2), f"velocity {SLOWEST:.0f} to {FASTEST:.0f} m/s", fill="black", font=font)
    ramp = np.linspace(-MOST_M_S, MOST_M_S, 160, dtype=np.float32)[None].repeat(12, 0)
    image.paste(Image.fromarray(_difference(ramp)), (4, 22))
    text = f"network slower or faster by up to {MOST_M_S:.0f} m/s; profile: green true, orange network"
    draw.text((170, 20), text, fill="black", font=font)
    return np.asarray(image)


def _coloured(model: Field) -> Picture:
    place = np.clip((model - SLOWEST) / (FASTEST - SLOWEST), 0, 1) * (len(_ANCHORS) - 1)
    low = np.minimum(place.astype(int), len(_ANCHORS) - 2)
    share = (place - low)[..., None]
    return np.asarray((1 - share) * _ANCHORS[low] + share * _ANCHORS[low + 1], np.uint8)


def _difference(difference: Field) -> Picture:
    share = np.clip(np.abs(difference) / MOST_M_S, 0, 1)[..., None]
    colour = np.where(difference[..., None] > 0, FASTER, SLOWER)
    return np.asarray((1 - share) * 255 + share * colour, np.uint8)


def _grey(gather: Field, scale: float | None = None) -> Picture:
    scale = scale or float(np.percentile(np.abs(gather), BRIGHT)) or 1.0
    pixels = np.clip(127.5 * (1 + gather / scale), 0, 255).astype(np.uint8)
    return np.repeat(pixels[..., None], 3, 2)


def _profile(true: Field, found: Field) -> Picture:
    """Velocities down one column: that with most salt, else the middle one."""
    salt = (true >= SALT_M_S).sum(0)
    column = int(salt.argmax()) if salt.any() else true.shape[1] // 2
    image = Image.new("RGB", (HIGH, HIGH), (245, 245, 245))
    draw = ImageDraw.Draw(image)
    depth = np.linspace(0, HIGH - 1, len(true))
    for model, colour in ((true, TRUE), (found, FOUND)):
        across = np.clip((model[:, column] - SLOWEST) / (FASTEST - SLOWEST + 200), 0, 1) * (HIGH - 1)
        draw.line(list(zip(across.tolist(), depth.tolist(), strict=True)), fill=colour, width=2)
    return np.asarray(image)


def _large(picture: Picture, wide: int | None = None) -> Picture:
    """At the height of a panel; of another shape than two to one, stretched."""
    high, own = picture.shape[:2]
    if wide is None:
        wide = int(np.clip(round(HIGH * own / high), 90, 2 * HIGH))
    return np.asarray(Image.fromarray(picture).resize((wide, HIGH), Image.Resampling.NEAREST))


def _row(panels: list[Picture]) -> Picture:
    high = max(panel.shape[0] for panel in panels)
    padded = [np.pad(one, ((0, high - one.shape[0]), (0, 4), (0, 0)), constant_values=255) for one in panels]
    return np.concatenate(padded, 1)
