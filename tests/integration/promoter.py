"""A promoter as a program: `python promoter.py WORKSPACE CANDIDATE`; a line on stdin starts each of its two steps.

It asks for a promotion, says `judged` when it has judged against the champion of that moment, waits for a line,
and says how it ended.
"""

import sys
from pathlib import Path

from vggflow import artifacts
from vggflow.commands import promotion_acts
from vggflow.commands.promotion_evidence import Judged, JudgeRequest
from vggflow.data import manifest as manifests
from vggflow.errors import PromotionRefused
from vggflow.prediction import table
from vggflow.promotion import comparison
from vggflow.promotion.rules import decide
from vggflow.report.page import Page
from vggflow.settings import Settings
from vggflow.workspace import Workspace, find


def judge(workspace: Workspace, settings: Settings, _case: JudgeRequest) -> Judged:
    """Finds the candidate good, from its recorded answers: what is tried here is who wins."""
    predictions = table.read(workspace.path(artifacts.PREDICTIONS))
    side = comparison.Side(predictions, table.class_names(predictions), 1.0)
    compared = comparison.compare(side, None, "")
    images = manifests.labelled(manifests.read(workspace.path(artifacts.MANIFEST)), "test")
    decision = decide(comparison.evidence(compared), settings.promotion)
    say("judged")
    sys.stdin.readline()
    return Judged(decision, Page("tiny", compared, images, workspace.path(artifacts.DATA), decision))


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def main() -> None:
    workspace, number = find(Path(sys.argv[1])), int(sys.argv[2])
    say("ready")
    while sys.stdin.readline():
        request = promotion_acts.Request("a race", by=f"promoter {number}", number=number)
        try:
            promotion = promotion_acts.promote(workspace, request, judge)
        except PromotionRefused as error:
            say(f"refused {error}")
            continue
        if promotion.outcome == "already champion":
            say("judged")
            sys.stdin.readline()
        say(promotion.outcome)


if __name__ == "__main__":
    main()
