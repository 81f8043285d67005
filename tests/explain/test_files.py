"""Image files of a person's own: what cannot be opened says why, and what can is upright RGB."""

import io

import numpy as np
import pytest
from PIL import Image

from foveate.explain import open_image

PIXELS = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)


def saved(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def test_odd_files_become_upright_rgb_of_eight_bits():
    turned = Image.Exif()
    turned[0x0112] = 6
    found = open_image(saved(Image.fromarray(PIXELS), "PNG", exif=turned))
    np.testing.assert_array_equal(np.asarray(found.image), np.rot90(PIXELS, -1))
    inks = open_image(saved(Image.fromarray(PIXELS).convert("CMYK"), "JPEG"))
    assert inks.image.mode == "RGB"
    deep = open_image(saved(Image.fromarray(np.full((4, 4), 40_000, np.uint16)), "PNG"))
    assert np.asarray(deep.image)[0, 0].tolist() == [156, 156, 156]
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    moving = open_image(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), "cat.gif")
    assert moving.image.size == (8, 6)
    assert moving.note == "cat.gif: the first of 2 frames is shown"


def test_what_is_no_image_or_too_large_is_refused_before_it_is_decoded(tmp_path):
    (tmp_path / "notes.jpg").write_text("hello")
    with pytest.raises(ValueError, match=r"notes.jpg: not an image, whatever its name says"):
        open_image(tmp_path / "notes.jpg")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    with pytest.raises(ValueError, match="cut short|corrupt"):
        open_image(saved(noise, "PNG")[:2000])
    bomb = saved(Image.new("1", (10_000, 10_000)), "PNG")  # 12 kB
    with pytest.raises(ValueError, match="bomb.png: wanted at most 64 million pixels; got 10000×10000"):
        open_image(bomb, "bomb.png")
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        open_image(tmp_path / "none.png")
