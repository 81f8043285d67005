"""The explorer page in a real browser, as a person uses it: at desk and phone width, without the network."""

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sklearn.datasets

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SIZES = {"desk": {"width": 1200, "height": 900}, "phone": {"width": 400, "height": 800}}
SHOTS = os.environ.get("FOVEATE_SCREENSHOTS")  # a folder to keep what the browser shows


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page of a study with two runs, served as the command does."""
    folder = tmp_path_factory.mktemp("page")
    arguments = "--network foveate:resnet8 --attention none,nl:sub_sample=true --at layer3.0.bn2 --control none"
    small = "--seeds 1 --epochs 1 --train-items 64 --test-items 32 --jobs 1"
    run = [sys.executable, "-m", "foveate", "study", "run", *arguments.split(), *small.split(), "--out", "study"]
    subprocess.run(run, cwd=folder, check=True, capture_output=True)
    before = contents(folder / "study")
    command = [sys.executable, "-m", "foveate", "web", "study"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().split()[0]
        finally:
            server.terminate()
    assert contents(folder / "study") == before, "the page changed the study's folder"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (foveate[dev])")
    if CHROMIUM is None:
        pytest.skip("needs chromium (Debian: apt install chromium)")
    with playwright.sync_playwright() as p:
        started = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def image() -> Path:
    """A photo of 640 × 427 pixels that scikit-learn brings."""
    return Path(sklearn.datasets.__file__).parent / "images" / "flower.jpg"


def keep(page: Any, name: str) -> None:
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


DROP = """([name, base64]) => {
  const bytes = Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name, { type: "image/jpeg" }));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_an_image_is_dropped_a_layer_chosen_a_pixel_clicked_and_the_report_read(size, address, browser, image):
    page = browser.new_context(viewport=SIZES[size]).new_page()
    page.set_default_timeout(120_000)
    asked: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.goto(address)
    page.wait_for_selector("#network option:nth-child(2)", state="attached")
    page.select_option("#network", index=1)
    page.evaluate(DROP, [image.name, base64.b64encode(image.read_bytes()).decode()])
    page.wait_for_selector("#answer:not([hidden])")
    assert "flower.jpg, 640 × 427 pixels" in page.inner_text("#status")
    assert page.locator("#scores tbody tr").count() == 5

    first = page.get_attribute("#map", "src")
    page.select_option("#layer", label="layer1")
    page.wait_for_selector("#map-caption:has-text('at layer1')")
    assert page.get_attribute("#map", "src") != first

    page.click("#pick", position={"x": 60, "y": 60})
    page.wait_for_selector("#rows img")
    assert "layer3.0.bn2" in page.inner_text("#rows")
    page.focus("#pick")
    page.keyboard.press("ArrowRight")
    with page.expect_response(lambda answer: "/api/point" in answer.url) as answered:
        page.keyboard.press("Enter")
    assert answered.value.ok

    page.select_option("#other", label="none, seed 0")
    page.wait_for_selector("#slide:not([hidden])")
    page.fill("#slider", "25")
    assert page.eval_on_selector("#map-other", "(one) => one.style.clipPath") == "inset(0px 0px 0px 25%)"
    keep(page, f"look-{size}")
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]

    page.click("#show-study")
    page.wait_for_selector("#figures svg")
    assert "2 done" in page.inner_text("#states")
    keep(page, f"study-{size}")
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]

    page.click("#report-link")
    page.wait_for_selector("h2#results")
    keep(page, f"report-{size}")
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]
    page.context.close()

    assert wrong == []
    assert {url for url in asked if not url.startswith((address, "data:", "blob:"))} == set()


@pytest.mark.slow
def test_what_is_no_image_is_told_and_the_page_goes_on(address, browser):
    page = browser.new_page()
    page.goto(address)
    page.wait_for_selector("#network option:nth-child(2)", state="attached")
    page.set_input_files("#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no image"})
    page.wait_for_selector("#status:has-text('not an image')")
    assert page.is_hidden("#answer")
    page.close()
