"""`vng annotate serve`: fills the database of a project from its sources, and serves the page until it is stopped."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conversion.annotation.clicking import Clicking
from conversion.annotation.database import Database
from conversion.annotation.leases import Leases
from conversion.annotation.masklets import Masklets
from conversion.annotation.project import Project
from conversion.annotation.verification import Verification
from conversion.options import BuildOptions, Engines, load_engines
from vng.errors import Problem, UsageError
from vng.manifest import claimed_file
from vng.propagators import DEFAULT as DEFAULT_PROPAGATOR

if TYPE_CHECKING:  # its packages are an extra
    from conversion.annotation.server.app import Site

DATABASE = "annotation.sqlite"
EXTRA = "pip install 'vng[annotate]'"


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where the clips of a project come from."""

    videos: Path | None = None  # a video, or a folder of videos
    clips: Path | None = None  # own clips
    candidates: Path | None = None  # a folder of `vng annotate propose`
    frames: Path | None = None  # folder of the videos of clips and candidates
    repeat: float = 0.0  # share of the objects that two people verify

    def __post_init__(self) -> None:
        if not 0 <= self.repeat <= 1:
            raise UsageError(f"--repeat {self.repeat}: expected a share in [0, 1]")

    @property
    def home(self) -> Path | None:
        """The folder of a new database."""
        if self.videos is not None:
            return self.videos if self.videos.is_dir() else self.videos.parent
        given = self.clips or self.candidates
        return None if given is None else given.parent

    def database(self, given: Path | None) -> Path:
        """The database's file; raises UsageError where nothing tells where it is."""
        if given is not None:
            return given
        if self.home is None:
            raise UsageError("vng annotate serve: give --videos, --clips, --candidates or --database")
        return self.home / DATABASE

    def add_to(self, project: Project) -> list[Problem]:
        """Put everything into the database that is not there yet; returns what could not be used."""
        problems: list[Problem] = []
        if self.videos is not None:
            problems += project.add_videos(self.videos)
        if self.clips is not None:
            problems += project.add_clips(self.clips, self.frames)
        if self.candidates is not None:
            root = self.frames or (self.clips.parent if self.clips else self.candidates.parent)
            problems += project.add_candidates(self.candidates, root, self.repeat)
        return problems


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where the server listens; a token is made where others can reach it."""

    host: str = "127.0.0.1"
    port: int = 8765
    token: str = ""

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return self.host in ("127.0.0.1", "localhost", "::1")

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names under which it may be asked; () for any."""
        from conversion.annotation.server.security import LOOPBACK

        return LOOPBACK if self.is_local else ()

    def url(self) -> str:
        """The address for a browser, with the token."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/" + (f"?token={self.token}" if self.token else "")


def checked_address(host: str, port: int, token: str) -> Address:
    """An address with a token where one is needed; raises UsageError for a port that is none."""
    if not 0 <= port < 65536:
        raise UsageError(f"--port {port}: expected a number below 65536")
    address = Address(host=host, port=port, token=token)
    if not address.is_local and not token:
        address = Address(host=host, port=port, token=secrets.token_urlsafe(24))
    return address


def require_server() -> None:
    """Raise UsageError where the packages of the page are not installed."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UsageError(f"the page needs packages that are not installed ({error.name}): {EXTRA}") from error


def serve(
    sources: Sources,
    address: Address,
    *,
    database: Path | None = None,
    options: BuildOptions | None = None,
    lease_minutes: float = 10.0,
    model: str | None = None,
    annotates: bool = True,
    announce: Callable[[str], None] = print,
) -> tuple[dict[str, int], list[Problem]]:
    """Serve the annotation page until it is interrupted.

    Args:
        sources: clips to put into the database; those that are there already are left as they are.
        address: where to listen.
        database: the file; None: `annotation.sqlite` in the folder of the sources.
        options: segmenter and propagator, a default one where none is named; whether to show progress.
        lease_minutes: after which an object that somebody left is given to others.
        model: a grounder for the playground: a run folder of `vng train`, or a hub id; None: no playground.
        annotates: whether there are the views of annotation.
        announce: told the address and the first problems.

    Returns:
        Totals of the database, and what could not be used.

    Raises:
        UsageError: packages are missing, the port is taken. DataError: another server has the database.
    """
    require_server()
    if not 0 < lease_minutes <= 1440:
        raise UsageError(f"--lease {lease_minutes:g}: expected minutes above 0, at most 1440")
    path = sources.database(database)
    with ExitStack() as stack:
        listener = stack.enter_context(_listening(address))
        address = replace(address, port=listener.getsockname()[1])
        here = replace(address, token="").url()  # the token is nobody's business but the annotators'
        stack.enter_context(claimed_file(path, f"a server (process {os.getpid()}) at {here}"))
        store = Database(path, create=sources.home is not None)
        try:
            project = Project(store, progress=options.progress if options else False)
            problems = sources.add_to(project)
            for problem in problems[:20]:
                announce(f"left out: {problem}")
            leases = Leases(seconds=60 * lease_minutes)
            site = _site(project, leases, options or BuildOptions(), model, annotates)
            _run(site, listener, address, announce)
            return _totals(store), problems
        finally:
            store.close()


def _site(project: Project, leases: Leases, options: BuildOptions, model: str | None, annotates: bool) -> Site:
    """The site of a project; networks are loaded when they are first asked."""
    from conversion.annotation.server.app import Site
    from conversion.annotation.server.ground import Playground
    from conversion.annotation.server.pictures import Pictures

    def engines() -> Engines:
        return load_engines(replace(options, propagator=options.propagator or DEFAULT_PROPAGATOR))

    def grounder() -> Any:
        from vng.grounding.grounder import NarrativeGrounder

        return NarrativeGrounder.from_pretrained(model)  # type: ignore[arg-type]

    pictures = Pictures(project)
    return Site(
        clicking=Clicking(project=project, leases=leases),
        verification=Verification(database=project.database, leases=leases),
        masklets=Masklets(project, engines, pictures.pixels),
        pictures=pictures,
        playground=None if model is None else Playground(project, grounder),
        annotates=annotates,
    )


def _run(site: Site, listener: socket.socket, address: Address, announce: Callable[[str], None]) -> None:
    import uvicorn

    from conversion.annotation.server.app import make_app

    app = make_app(site, address.hosts, address.token)
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2, lifespan="off")
    kept = f", and everything is kept in {site.clicking.database.path}" if site.annotates else ""
    announce(f"open {address.url()} in a browser; Ctrl-C stops{kept}")
    if not address.is_local:
        announce("other machines can reach this: give the address with its token only to those who annotate")
    with suppress(KeyboardInterrupt):  # the usual end
        uvicorn.Server(config).run(sockets=[listener])


def _listening(address: Address) -> socket.socket:
    """A socket at the address; raises UsageError where it is taken."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # asyncio sends small answers at once only where the protocol is named; without it, each takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address.host, address.port))
        listener.listen(128)  # who comes before the application is ready waits
    except OSError as error:
        listener.close()
        reason = error.strerror or error
        raise UsageError(f"cannot listen at {address.host}:{address.port} ({reason}); choose another --port") from error
    return listener


def _totals(database: Database) -> dict[str, int]:
    tables = {
        "clips": "clips",
        "objects": "objects",
        "clicks": "clicks",
        "candidates": "candidates",
        "verdicts": "verdicts",
    }
    totals = {}
    for name, table in tables.items():
        row = database.one(f"SELECT count(*) FROM {table}")
        totals[name] = 0 if row is None else row[0]
    return totals
