"""The web application: pages, frames, and the answers of `verify`, `click` and `review`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from conversion.annotation.clicking import Clicking
from conversion.annotation.masklets import Masklets
from conversion.annotation.server.click import click_routes
from conversion.annotation.server.ground import Playground, ground_routes
from conversion.annotation.server.pictures import Pictures
from conversion.annotation.server.requests import Call, route
from conversion.annotation.server.review import review_routes
from conversion.annotation.server.security import LOOPBACK, Guard
from conversion.annotation.server.verify import verify_routes
from conversion.annotation.verification import Verification

HERE = Path(__file__).parent
ANNOTATE = {"verify": "Verify", "click": "Click", "review": "Review"}
GROUND = {"ground": "Ground"}


@dataclass(frozen=True, kw_only=True)
class Site:
    """Everything that the views of the server need."""

    clicking: Clicking
    verification: Verification
    masklets: Masklets
    pictures: Pictures
    playground: Playground | None = None
    annotates: bool = True  # whether there are the views of annotation

    @property
    def views(self) -> dict[str, str]:
        """Names and titles of its views."""
        return (ANNOTATE if self.annotates else {}) | ({} if self.playground is None else GROUND)

    @property
    def first(self) -> str:
        """The view that is shown first."""
        if not self.annotates:
            return "ground"
        return "verify" if self.clicking.database.one("SELECT 1 FROM tasks") else "click"


def make_app(site: Site, hosts: tuple[str, ...] = LOOPBACK, token: str = "") -> ASGIApp:
    """The application.

    Args:
        site: what it shows.
        hosts: names under which it may be asked; () allows any.
        token: what a browser must bring; "" needs none.
    """
    project = site.clicking.project

    def frame(call: Call) -> Response:
        data, kind = site.pictures.encoded(call.number("clip"), call.number("frame"))
        return Response(data, media_type=kind, headers={"cache-control": "private, max-age=3600"})

    def overview(call: Call) -> Any:
        return _overview(site, call)

    def release(call: Call) -> Any:
        site.verification.release(call.annotator)
        site.clicking.release(call.annotator)
        return {}

    routes: list[BaseRoute] = [
        *page_routes(site.views, site.first),
        route("/api/project", overview, "GET"),
        route("/api/release", release),
        route("/api/frames/{clip:int}/{frame:int}", frame, "GET"),
        *verify_routes(site.verification, project),
        *click_routes(site.clicking, site.masklets),
        *review_routes(site.verification, project),
        *(() if site.playground is None else ground_routes(site.playground)),
    ]
    return Guard(Starlette(routes=routes), hosts, token)


def page_routes(views: dict[str, str], first: str) -> list[BaseRoute]:
    """The pages and what they load; "/" leads to the first one."""
    folder = FileSystemLoader(HERE / "templates")
    template = Environment(loader=folder, autoescape=select_autoescape(["html"])).get_template("page.html")

    async def page(request: Request) -> Response:
        name = request.url.path.strip("/")
        return HTMLResponse(template.render(view=name, views=views), headers={"cache-control": "no-store"})

    async def home(request: Request) -> Response:
        return RedirectResponse(f"/{first}")

    pages: list[BaseRoute] = [Route(f"/{name}", page) for name in views]
    return [Route("/", home), *pages, Mount("/static", StaticFiles(directory=HERE / "static"))]


def _overview(site: Site, call: Call) -> dict[str, Any]:
    """The clips with what is known of each, where this annotator was, and how far the work is."""
    database = site.clicking.database
    clips = database.rows(
        "SELECT clip, video_id, frames, height, width, reason, "
        "(SELECT count(*) FROM objects WHERE objects.clip = clips.clip) AS objects, "
        "(SELECT count(*) FROM clicks JOIN objects USING (object) WHERE objects.clip = clips.clip) AS clicks, "
        "(SELECT annotator FROM leases WHERE kind = 'clip' AND item = clips.clip AND expires > ?) AS holder "
        "FROM clips ORDER BY video_id",
        site.clicking.leases.clock(),
    )
    name = call.annotator if call.has_name else ""  # the playground asks for none
    place = database.one("SELECT * FROM places WHERE annotator = ?", name)
    return {
        "clips": [dict(row) for row in clips],
        "place": None if place is None else dict(place),
        "progress": site.verification.progress(name).as_json(),
    }
