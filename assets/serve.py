"""Dagster's UI with this project's pages beside it, on the same host and port.

``python -m assets.serve dev ...`` is ``dagster dev`` whose webserver is started as
``python -m assets.serve webserver ...``: Dagster's own, with further routes. So metadata can link to a
search tree without naming a host, and what a page shows is read from the store when it is opened.
"""

import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg
import dagster._cli.dev
import dagster._config.errors
import dagster._config.validate
import dagster_webserver.app
from dagster._cli import main as dagster_main
from dagster._config.errors import EvaluationError
from dagster_shared.ipc import open_ipc_subprocess
from dagster_shared.record import copy
from dagster_webserver.cli import main as webserver_main
from dagster_webserver.webserver import DagsterWebserver
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from assets.guard import Guard
from assets.pages import PAGES
from josh_pipeline.audit.chain import audit_row
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.faults import suggestion
from josh_pipeline.core.redaction import holds_secret_url
from josh_pipeline.report.html import report_page
from josh_pipeline.report.load import load_report
from josh_pipeline.report.tree import load_drawn_tree
from josh_pipeline.report.viewer import load_row_page, tree_page
from josh_pipeline.stages.registry import open_home
from josh_pipeline.store.home import Home


class Webserver(DagsterWebserver):  # type: ignore[type-arg]
    """Dagster's webserver, and the pages of a home."""

    def build_routes(self) -> list[BaseRoute]:
        """Put our routes first: Dagster's last one takes every path."""
        return [*PAGE_ROUTES, *super().build_routes()]  # type: ignore[no-untyped-call]

    def build_middleware(self) -> list[Middleware]:
        """Put the guard before everything."""
        return [Middleware(Guard), *super().build_middleware()]

    async def execute_graphql_request(
        self, request: Request, query: str, variables: dict[str, Any] | None, operation_name: str | None
    ) -> JSONResponse:
        """Refuse a URL with a secret in it: Dagster would store it with the run's config before we read it."""
        if holds_secret_url(json.dumps([query, variables])):
            said = (
                "A URL in this holds a user, a password or a query, which would be stored: set OPENAI_API_KEY for an "
                "endpoint, and for a corpus give the URL to josh iterate, or fetch it and give its folder or zip."
            )
            return JSONResponse({"data": None, "errors": [{"message": said}]}, status_code=400)
        return await super().execute_graphql_request(request, query, variables, operation_name)


def page(render: Callable[[Home, str], str]) -> Callable[[Request], Response]:
    """Return a route's function; what is not there is told in one sentence."""

    def answer(request: Request) -> Response:
        try:
            return HTMLResponse(render(open_home(), request.path_params.get("name", "")))
        except UserError as fault:
            return PlainTextResponse(str(fault), status_code=404)

    return answer


def tree(home: Home, rollout: str) -> str:
    """The page of a search tree, by the first digits of its id."""
    return tree_page(load_drawn_tree(home.warehouse(), rollout))


def row(home: Home, prefix: str) -> str:
    """The page of a training row, by the first digits of its id, with its whole lineage."""
    return load_row_page(home.warehouse(), audit_row(home, prefix))


def report(home: Home, iteration: str) -> str:
    """The report up to an iteration; up to the last one where none is named."""
    return report_page(load_report(home.warehouse(), iteration or None))


PAGE_ROUTES = [
    Route(f"{PAGES}/trees/{{name}}.html", page(tree)),
    Route(f"{PAGES}/rows/{{name}}.html", page(row)),
    Route(f"{PAGES}/report.html", page(report)),
    Route(f"{PAGES}/report-{{name}}.html", page(report)),
]


def put_in_place() -> None:
    """Let Dagster start our webserver instead of its own: the one place that reaches into Dagster.

    Its webserver takes no further routes, ``dagster dev`` no other webserver, and its launchpad lists all names that
    a misspelt one is not. A test holds the Dagster
    that is installed to what this changes.
    """
    dagster_webserver.app.DagsterWebserver = Webserver  # type: ignore[attr-defined]
    dagster._cli.dev.open_ipc_subprocess = started  # type: ignore[attr-defined]
    for name in UNKNOWN_NAMES:
        setattr(dagster._config.validate, name, suggesting(getattr(dagster._config.errors, name)))


UNKNOWN_NAMES = ("create_field_not_defined_error", "create_fields_not_defined_error")
"""What words the launchpad's errors about settings that do not exist."""


def suggesting(worded: Callable[[Any, Any], EvaluationError]) -> Callable[[Any, Any], EvaluationError]:
    """Let an error begin with the names that were probably meant: of a long one the launchpad shows the beginning."""

    def told(context: Any, unknown: str | Sequence[str]) -> EvaluationError:
        error = worded(context, unknown)
        names = [unknown] if isinstance(unknown, str) else sorted(unknown)
        hints = [f"{name}{suggestion(name, context.config_type_snap.field_names)}" for name in names]
        return copy(error, message=f"There is no {', no '.join(hints)}. {error.message}")

    return told


def started(parts: Sequence[str], **kwargs: Any) -> subprocess.Popen[Any]:
    """Start one of the processes of ``dagster dev``: of its webserver ours takes the place."""
    return open_ipc_subprocess([part for name in parts for part in OURS.get(name, [name])], **kwargs)


OURS = {"dagster_webserver": ["assets.serve", "webserver"]}


def main(arguments: Sequence[str]) -> None:
    """Be ``dagster dev`` or its webserver."""
    role, *rest = arguments
    put_in_place()
    if role == "webserver":
        sys.argv = ["dagster-webserver", *rest]
        webserver_main()  # type: ignore[no-untyped-call]
    else:
        # It says that `dg dev` supersedes it, which starts no webserver of ours.
        warnings.simplefilter("ignore", dg.SupersessionWarning)
        sys.argv = ["dagster", role, *rest]
        dagster_main()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main(sys.argv[1:])
