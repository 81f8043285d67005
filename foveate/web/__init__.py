"""The explorer page: what trained networks look at in an image of one's own, and how a study stands while it runs.

A local server (Starlette, uvicorn) and a page of three files. It changes nothing on disk, loads nothing from elsewhere,
and keeps no image: every question brings its own.
"""

from foveate.web.app import create_app
from foveate.web.networks import Networks, networks_by_name, networks_of_study
from foveate.web.serve import serve

__all__ = ["Networks", "create_app", "networks_by_name", "networks_of_study", "serve"]
