"""Serve the page until Ctrl-C: on this machine alone unless told otherwise."""

import ipaddress
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

from foveate.web.app import create_app
from foveate.web.networks import Networks

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def serve(
    networks: Networks,
    *,
    title: str,
    study: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    on_start: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve until interrupted.

    Args:
        networks, title, study: as of `create_app`.
        host: an address of this machine; one that others reach makes a random token part of the page's address.
        port: 0: any free one.
        on_start: called with the page's address.

    Raises: OSError: the port is taken, or the address is none of this machine.
    """
    import uvicorn

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError as error:
            raise OSError(error.errno, f"--host {host} --port {port}: {error.strerror}") from None
        local = is_loopback(host)
        token = "" if local else secrets.token_urlsafe(24)
        app = create_app(networks, title=title, study=study, hosts=LOOPBACK if local else (), token=token)
        name = f"[{host}]" if ":" in host else host
        address = f"http://{name}:{listening.getsockname()[1]}/"
        config = uvicorn.Config(
            app, log_level="warning", limit_concurrency=64, timeout_keep_alive=10, server_header=False
        )
        on_start(f"{address}?token={token}" if token else address)
        uvicorn.Server(config).run(sockets=[listening])


def is_loopback(host: str) -> bool:
    """Is it reached from this machine alone?"""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
