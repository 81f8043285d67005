"""The page's routes: three files, what there is, what a network sees in an image, how a study stands."""

import asyncio
import sqlite3
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from foveate.explain import ALL_METHODS
from foveate.report.colours import DARK, LIGHT, VARIABLES, drawing_rules
from foveate.web.guard import Guard
from foveate.web.networks import Networks
from foveate.web.upload import read_body
from foveate.web.watching import figures, report_page, standing

FILES = {"/": ("index.html", "text/html"), "/page.js": ("page.js", "text/javascript")}
WAITING = 16  # questions with an image at a time; more are told to come again
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"


def create_app(
    networks: Networks, *, title: str, study: Path | None = None, hosts: tuple[str, ...] = (), token: str = ""
) -> Starlette:
    """The application.

    Args:
        networks: that the page offers.
        title: what is looked at, for the head of the page.
        study: folder of a study to browse; None: there is none.
        hosts, token: as of `Guard`.
    """
    asked = asyncio.Semaphore(WAITING)

    async def about(request: Request) -> Response:
        offered = await _answered(networks.offered)
        listed = [vars(one) for one in offered]
        return JSONResponse({"title": title, "study": study is not None, "networks": listed, "methods": ALL_METHODS})

    async def look(request: Request) -> Response:
        given = request.query_params
        target = given.get("target", "")
        if target and not target.isdecimal():
            raise HTTPException(400, f"target: wanted the number of a class; got {target!r}")
        return await _of_image(
            request,
            lambda content: networks.look(
                content,
                given.get("network", ""),
                layer=given.get("layer", ""),
                method=given.get("method", "gradcam"),
                target=int(target) if target else None,
            ),
        )

    async def point(request: Request) -> Response:
        given = request.query_params
        try:
            y, x = float(given["y"]), float(given["x"])
        except (KeyError, ValueError):
            raise HTTPException(400, "wanted y and x in shares of the image, 0 to 1") from None
        if not (0 <= y <= 1 and 0 <= x <= 1):
            raise HTTPException(400, f"wanted y and x in shares of the image, 0 to 1; got {y:g}, {x:g}")
        return await _of_image(request, lambda content: networks.point(content, given.get("network", ""), y, x))

    async def _of_image(request: Request, answer: Callable[[bytes], dict[str, Any]]) -> Response:
        if asked.locked():
            raise HTTPException(503, "too many images at a time; come again in a moment")
        async with asked:
            try:
                content = await read_body(request)
            except ClientDisconnect:
                return Response(status_code=499)  # nobody reads it
            return JSONResponse(await _answered(lambda: answer(content)))

    async def status_of_study(request: Request) -> Response:
        return JSONResponse(await _answered(lambda: standing(_study())))

    async def figures_of_study(request: Request) -> Response:
        return JSONResponse(await _answered(lambda: figures(_study())))

    async def report(request: Request) -> Response:
        text = await _answered(lambda: report_page(_study()))
        return HTMLResponse(text, headers={"Content-Security-Policy": REPORT_POLICY})

    def _study() -> Path:
        if study is None:
            raise LookupError("this page was started for networks; foveate web DIR browses a study")
        return study

    routes = [Route(path, _file(*file)) for path, file in FILES.items()]
    routes += [
        Route("/page.css", _style),
        Route("/api/about", about),
        Route("/api/look", look, methods=["POST"]),
        Route("/api/point", point, methods=["POST"]),
        Route("/api/study", status_of_study),
        Route("/api/figures", figures_of_study),
        Route("/report", report),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, hosts=hosts, token=token)],
        exception_handlers={HTTPException: _told},
    )


async def _answered(question: Callable[[], Any]) -> Any:
    """What a function answers, in a thread. Raises: HTTPException: with its message, for the mistakes of a user."""
    try:
        return await asyncio.to_thread(question)
    except LookupError as error:
        raise HTTPException(404, str(error.args[0] if error.args else error)) from None
    except (ValueError, TypeError) as error:
        raise HTTPException(422, str(error).splitlines()[0]) from None
    except (sqlite3.OperationalError, OSError) as error:  # a study that is being written
        raise HTTPException(503, f"cannot be read at this moment: {error}") from None
    except RuntimeError as error:
        raise HTTPException(422, f"the network refuses the image: {str(error).splitlines()[0]}") from None


async def _told(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


def _file(name: str, kind: str) -> Callable[[Request], Response]:
    content = (resources.files("foveate.web") / "page" / name).read_bytes()

    def answer(request: Request) -> Response:
        return Response(content, media_type=kind)

    return answer


def _style(request: Request) -> Response:
    """The page's style sheet: colours and figures as the report has them."""
    light, dark = ("".join(f"--{name}: {colour}; " for name, colour in colours.items()) for colours in (LIGHT, DARK))
    head = (
        f":root {{ color-scheme: light dark; {light}--wash: #f5f7f9; }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark}--wash: #1b2229; }} }}\n"
    )
    own = (resources.files("foveate.web") / "page" / "page.css").read_text(encoding="utf-8")
    return PlainTextResponse(head + own + drawing_rules(VARIABLES, "inherit"), media_type="text/css")
