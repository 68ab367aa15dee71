"""``/docs``: the API's description as a page, with the scripts of the package fastapi-offline.

FastAPI's own page loads them from a content delivery network, which a machine without the internet cannot reach.
"""

from __future__ import annotations

from importlib.resources import files

import fastapi_offline
from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

_FILES = "/docs-files"


def install(app: FastAPI) -> None:
    """Add the page. Like ``/openapi.json``, it tells nothing of the memory and asks for no token."""
    app.mount(_FILES, StaticFiles(directory=str(files(fastapi_offline) / "static")), name="docs-files")

    async def docs(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "").rstrip("/")
        return get_swagger_ui_html(
            openapi_url=f"{root}{app.openapi_url}",
            title=app.title,
            swagger_js_url=f"{root}{_FILES}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{_FILES}/swagger-ui.css",
            swagger_favicon_url=f"{root}{_FILES}/favicon.png",
        )

    app.add_route("/docs", docs, include_in_schema=False)
