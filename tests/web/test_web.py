"""The explorer page's server: who may ask, what is refused, what is answered. Asked in this process."""

import asyncio
import io
import json
import struct
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.types import ASGIApp

from foveate.insertion import insert
from foveate.networks import create_network
from foveate.web import Networks, create_app
from foveate.web.networks import Loaded, Offered, networks_by_name
from foveate.web.serve import LOOPBACK, is_loopback
from foveate.web.upload import MOST_BYTES

SIDE = 32


def picture(width: int = 48, height: int = 40, kind: str = "PNG", mode: str = "RGB", **more: Any) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((width, height), 90).convert(mode).save(file, kind, **more)
    return file.getvalue()


def sixteen_bits() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.linspace(0, 65535, 400, dtype=np.uint16).reshape(20, 20)).save(file, "PNG")
    return file.getvalue()


class Answer:
    def __init__(self, messages: list[Any]) -> None:
        start = next(one for one in messages if one["type"] == "http.response.start")
        self.status = start["status"]
        self.headers = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        self.body = b"".join(one.get("body", b"") for one in messages if one["type"] == "http.response.body")

    @property
    def values(self) -> Any:
        return json.loads(self.body)


def ask(
    app: ASGIApp,
    path: str,
    content: bytes | None = None,
    *,
    parts: list[Any] | None = None,
    host: str = "127.0.0.1:8000",
    **headers: str,
) -> Answer:
    """GET, or POST where there is content; parts: messages that come instead of it, such as http.disconnect."""
    target, _, query = path.partition("?")
    given = {"host": host} | {name.replace("_", "-"): value for name, value in headers.items()}
    if content is not None:
        given.setdefault("content-length", str(len(content)))
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "path": target,
        "raw_path": target.encode(), "query_string": query.encode(), "root_path": "", "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 5000), "method": "GET" if content is None and parts is None else "POST",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }  # fmt: skip
    waiting = list(parts or [{"type": "http.request", "body": content or b"", "more_body": False}])
    sent: list[Any] = []

    async def receive() -> Any:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return Answer(sent)


@pytest.fixture(scope="module")
def networks() -> Networks:
    model = create_network("resnet8", num_classes=4).eval()
    insert(model, "nl", at="layer3.0.bn2", example=torch.zeros(1, 3, SIDE, SIDE))
    insert(model, "cbam", at="layer1.0.bn2", example=torch.zeros(1, 3, SIDE, SIDE))

    def prepare(image: Image.Image) -> torch.Tensor:
        pixels = np.array(image.resize((SIDE, SIDE)))
        return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255

    model.eval()
    return Networks(
        lambda: [Offered("a", "cbam and nl", "cbam")], lambda key: Loaded(model, prepare, ("ant", "bee", "cat", "dog"))
    )


@pytest.fixture(scope="module")
def app(networks: Networks) -> ASGIApp:
    return create_app(networks, title="mine", hosts=LOOPBACK)


def test_the_page_and_its_files_allow_nothing_from_elsewhere(app):
    for path, kind in (("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")):
        answer = ask(app, path)
        assert (answer.status, answer.headers["content-type"].split(";")[0]) == (200, kind)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert b"http://" not in answer.body.replace(b"http://www.w3.org", b"")
        assert b"https://" not in answer.body
    assert ask(app, "/api/about").values["networks"][0]["label"] == "cbam and nl"


def test_an_image_gets_a_map_scores_layers_and_gates(app):
    found = ask(app, "/api/look?network=a", picture()).values
    assert found["size"] == [48, 40]
    assert len(found["scores"]) == 4
    assert abs(sum(one["score"] for one in found["scores"]) - 1) < 1e-5
    assert {"layer1", "layer2.0", "layer3"} <= set(found["layers"])
    assert any(one["name"] == "layer1.0.bn2: spatial" for one in found["gates"])
    assert found["picture"].startswith("data:image/jpeg;base64,")
    other = ask(app, "/api/look?network=a&layer=layer1&method=hirescam&target=2", picture()).values
    assert (other["layer"], other["target"]) == ("layer1", "cat")
    assert other["map"] != found["map"]


def test_a_position_gets_its_affinity_row_and_the_masks_values(app):
    found = ask(app, "/api/point?network=a&y=0.5&x=0.25", picture()).values
    assert [one["name"] for one in found["rows"]] == ["layer3.0.bn2"]
    assert [one["name"] for one in found["values"]] == ["layer1.0.bn2"]
    assert 0 < found["values"][0]["value"] < 1


@pytest.mark.parametrize(
    "content",
    [
        picture(kind="JPEG", mode="CMYK"),
        picture(kind="GIF"),
        sixteen_bits(),
        picture(
            kind="JPEG",
            exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00",
        ),
    ],
    ids=["cmyk", "gif", "sixteen bits", "turned"],
)
def test_images_of_many_kinds_are_shown(app, content):
    assert ask(app, "/api/look?network=a", content).status == 200


@pytest.mark.parametrize(
    ("path", "content", "status", "message"),
    [
        ("/api/look?network=a", b"no image", 422, "the image: not an image"),
        ("/api/look?network=a", picture()[:200], 422, "the image: corrupt or cut short"),
        ("/api/look?network=a", b"", 411, "wanted an image"),
        ("/api/look?network=b", picture(), 404, "there is no network 'b' here; known: a"),
        ("/api/look?network=a&layer=layer9", picture(), 404, "there is no layer 'layer9'; did you mean"),
        ("/api/look?network=a&method=magic", picture(), 422, "magic"),
        ("/api/look?network=a&target=9", picture(), 422, "9"),
        ("/api/look?network=a&target=ant", picture(), 400, "wanted the number of a class"),
        ("/api/point?network=a&y=2&x=0", picture(), 400, "in shares of the image, 0 to 1; got 2, 0"),
        ("/api/point?network=a&y=nan&x=0", picture(), 400, "in shares of the image"),
        ("/api/point?network=a", picture(), 400, "wanted y and x"),
        ("/api/study", None, 404, "foveate web DIR browses a study"),
        ("/nothing", None, 404, "Not Found"),
    ],
)
def test_a_mistake_is_told_in_one_line(app, path, content, status, message):
    answer = ask(app, path, content)
    assert answer.status == status
    assert message in answer.values["error"]
    assert "\n" not in answer.values["error"]


@pytest.mark.parametrize(("side", "message"), [(8000, "at most 40 million pixels; got 8000×8000"), (30000, "pixels")])
def test_a_bomb_of_pixels_is_refused_before_it_is_decoded(app, side, message):
    bomb = picture(10, 10)
    header = bomb.index(b"IHDR")
    chunk = b"IHDR" + struct.pack(">II", side, side) + bomb[header + 12 : header + 17]
    bomb = bomb[:header] + chunk + struct.pack(">I", zlib.crc32(chunk)) + bomb[header + 21 :]
    answer = ask(app, "/api/look?network=a", bomb)
    assert answer.status == 422
    assert message in answer.values["error"]


def test_more_bytes_are_refused_told_or_not(app):
    assert ask(app, "/api/look?network=a", b"x", content_length=str(MOST_BYTES + 1)).status == 413
    part = {"type": "http.request", "body": b"x" * (MOST_BYTES // 2 + 1), "more_body": True}
    assert ask(app, "/api/look?network=a", parts=[part, part]).status == 413


def test_an_upload_that_stops_halfway_leaves_the_server_whole(app):
    half = {"type": "http.request", "body": picture()[:100], "more_body": True}
    assert ask(app, "/api/look?network=a", parts=[half, {"type": "http.disconnect"}]).status == 499
    assert ask(app, "/api/look?network=a", picture()).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:9"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"host": "evil.example:8000"}, 421),
        ({"origin": "http://127.0.0.1:8000"}, 200),
        ({"host": "localhost:8000", "origin": "http://localhost:8000", "sec_fetch_site": "same-origin"}, 200),
    ],
)
def test_pages_of_another_origin_may_not_ask(app, headers, status):
    assert ask(app, "/api/look?network=a", picture(), **headers).status == status


def test_beyond_this_machine_a_token_is_needed(networks):
    app = create_app(networks, title="mine", token="secret")
    assert ask(app, "/", host="10.0.0.7:80").status == 401
    assert ask(app, "/?token=wrong", host="10.0.0.7:80").status == 401
    first = ask(app, "/?token=secret", host="10.0.0.7:80")
    assert first.status == 200
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert ask(app, "/api/about", host="10.0.0.7:80", cookie=cookie.partition(";")[0]).status == 200
    assert ask(app, "/api/about", host="10.0.0.7:80", cookie="foveate_token=wrong").status == 401
    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")
    assert not is_loopback("0.0.0.0")


def test_two_people_at_once_get_what_each_asked_for(app):
    alone = {layer: ask(app, f"/api/look?network=a&layer={layer}", picture()).values for layer in ("layer1", "layer3")}
    content, together = picture(), dict[str, Any]()
    alone = {layer: ask(app, f"/api/look?network=a&layer={layer}", content).values["map"] for layer in alone}

    def asking(layer: str) -> None:
        together[layer] = ask(app, f"/api/look?network=a&layer={layer}", content).values["map"]

    threads = [threading.Thread(target=asking, args=(layer,)) for layer in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def test_networks_by_name_say_that_they_have_learned_nothing():
    found = networks_by_name(["foveate:resnet8"], None, [("se", {})], "block")
    offered = found.offered()
    assert [one.mechanism for one in offered] == ["none", "se"]
    answer = found.look(picture(), offered[1].key)
    assert "fresh weights: it has learned nothing; the attention is untrained" in answer["notes"]
    assert any(one["name"].endswith("channel") for one in answer["gates"])
    with pytest.raises(LookupError, match="no network is called 'resnet9'"):
        networks_by_name(["foveate:resnet9"], None, [], "block")


def test_a_folder_that_is_no_study_is_refused(tmp_path: Path):
    from foveate.web import networks_of_study

    with pytest.raises(ValueError, match="wanted the folder of a study"):
        networks_of_study(tmp_path)
