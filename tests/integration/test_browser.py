"""The way that people take: deployment, run, artifacts, report, MLflow run, model version, form, decisions.

With VGGFLOW_SCREENSHOTS=FOLDER each page is kept as a picture: those in docs/ are `browser-*.png`.
"""

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright
from team import Team, change_params, team, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE_MS = 60_000
# MLflow opens a panel with a chat at the first visit.
WITHOUT_ASSISTANT = """
localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true');
localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false');
"""


@pytest.fixture(scope="module")
def retrained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Team, str]]:
    """A team whose nightly deployment ran once and waits for approval; with the id of that run."""
    with team(tmp_path_factory.mktemp("browser")) as made:
        change_params(made.root, promotion={"approval": "required"})
        made.vggflow("data", "import", str(made.folder / "delivery"))
        made.vggflow("deploy")
        made.worker()
        run = made.request("retrain-nightly")
        assert made.ended(run, 400)["state"]["name"] == "Awaiting approval"
        yield made, run


@pytest.fixture
def page() -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("no chromium: apt-get install chromium")
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--no-proxy-server"]
        )
        opened = browser.new_page(viewport={"width": 1400, "height": 900})
        opened.set_default_timeout(PATIENCE_MS)
        opened.add_init_script(WITHOUT_ASSISTANT)
        yield opened
        browser.close()


def keep(page: Page, name: str) -> None:
    folder = os.environ.get("VGGFLOW_SCREENSHOTS")
    if folder:
        page.wait_for_timeout(3000)  # charts draw themselves
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        picture.thumbnail((1000, 1000))
        picture.quantize(48).save(Path(folder) / f"browser-{name}.png", optimize=True)


def test_a_person_finds_the_way_from_the_deployment_to_a_promotion(
    retrained: tuple[Team, str], page: Page
) -> None:
    made, run = retrained
    expect.set_options(timeout=PATIENCE_MS)

    page.goto(f"{made.prefect_url}/deployments")
    page.get_by_role("link", name="retrain-nightly@tiny").first.click()
    expect(page.get_by_text("retrain-nightly@tiny").first).to_be_visible()
    keep(page, "deployment")

    # The list of a deployment's runs hides, by its default filter, states that have names of their own.
    page.goto(f"{made.prefect_url}/runs/flow-run/{run}")
    expect(page.get_by_text(made.run(run)["name"]).first).to_be_visible()
    expect(
        page.get_by_text("AwaitingApproval").or_(page.get_by_text("Awaiting approval")).first
    ).to_be_visible()
    keep(page, "run")

    page.get_by_text("Artifacts", exact=True).last.click()
    page.get_by_text("tiny-summary").first.click()
    expect(page.get_by_role("heading", name="Awaiting approval").first).to_be_visible()
    expect(page.get_by_text("vggflow promote 1").first).to_be_visible()
    keep(page, "artifact")

    link, report = (
        page.get_by_role("link", name=name).first.get_attribute("href")
        for name in ("MLflow run", "evaluation report")
    )
    assert link is not None and link.startswith(made.mlflow_url)
    assert report is not None and report.startswith(made.mlflow_url)
    page.goto(f"{made.prefect_url}/artifacts")
    for key in ("tiny-summary", "tiny-train", "tiny-evaluate", "tiny-promote"):
        expect(page.get_by_text(key).first).to_be_visible()
    keep(page, "artifacts")

    page.goto(report)
    expect(page.frame_locator("iframe").get_by_role("heading", name="Measures")).to_be_visible()
    keep(page, "report")

    page.goto(f"{link}/model-metrics")
    page.get_by_placeholder("Search metric charts").fill("val_accuracy")  # charts further down come when seen
    expect(page.get_by_text("val_accuracy").first).to_be_visible()
    keep(page, "mlflow-run")

    page.goto(f"{made.mlflow_url}/#/models/tiny-candidates/versions/1")
    expect(page.get_by_text("challenger").first).to_be_visible()
    expect(page.get_by_text("Tells blue and red apart").first).to_be_visible()
    keep(page, "model-version")

    page.goto(f"{made.prefect_url}/deployments/deployment/{made.deployment('promote', 'promote')['id']}/run")
    # The form's labels belong to no field; what describes a parameter stands above its field.
    for says, filled in (
        ("Why, for the record.", "seen in a browser"),
        ("Your name, for the record.", "ann"),
    ):
        page.get_by_text(says).locator("xpath=following::*[self::textarea or self::input][1]").fill(filled)
    keep(page, "promote-form")
    page.get_by_role("button", name="Submit").click()

    promotions = wait(lambda: made.runs("promote"), 60, "the form starts a run")
    defaults = {"version": None, "workspace": "."}  # which a form may send or leave out
    assert promotions[0]["parameters"] | defaults == {"reason": "seen in a browser", "by": "ann"} | defaults
    assert made.ended(promotions[0]["id"], 200)["state"]["name"] == "Promoted"
    page.goto(f"{made.mlflow_url}/#/models/tiny/versions/1")
    expect(page.get_by_text("champion").first).to_be_visible()
    keep(page, "champion")

    page.goto(f"{made.mlflow_url}/#/experiments/{made.experiment('tiny-promotions')}/runs")
    expect(page.get_by_text("candidate 1: promoted").first).to_be_visible()
    expect(page.get_by_text("candidate 1: awaiting approval").first).to_be_visible()
    keep(page, "decisions")
