"""One self-contained HTML page for people: a model, its champion, and the decision between them."""

from pathlib import Path

from jinja2 import Environment, PackageLoader

from vggflow import files
from vggflow.console import counted
from vggflow.promotion.decision import Decision
from vggflow.report.page import Page, content

__all__ = ["Page", "decision_html", "environment", "render", "write"]


def write(page: Page, path: Path) -> None:
    """Writes the page, whole or not at all."""
    files.write_text(path, render(page))


def render(page: Page) -> str:
    """The page as one HTML document without scripts or outside addresses."""
    return environment().get_template("report.html.j2").render(content(page))


def decision_html(decision: Decision) -> str:
    """The decision alone, as a piece of HTML."""
    return environment().get_template("decision.html.j2").render(decision=decision)


def environment() -> Environment:
    """Of this package's templates."""
    # Names of files, classes and columns, and reasons, are whatever somebody wrote: no HTML may come of them.
    made = Environment(loader=PackageLoader("vggflow.report"), autoescape=True, trim_blocks=False)
    made.globals["counted"] = counted
    return made
