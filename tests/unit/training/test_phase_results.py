from vggflow.training.phase_results import PhaseResult, phase_results


def row(phase: str, accuracy: float, loss: float) -> dict[str, object]:
    return {"phase": phase, "val_accuracy": accuracy, "val_loss": loss}


def test_a_phase_has_its_best_accuracy_and_its_least_loss_also_of_different_epochs() -> None:
    history = [row("head", 0.5, 0.9), row("head", 0.75, 0.8), row("head", 0.625, 0.7), row("all", 0.25, 2.0)]
    assert phase_results(history) == [PhaseResult("head", 3, 0.75, 0.7), PhaseResult("all", 1, 0.25, 2.0)]


def test_without_epochs_there_is_no_phase() -> None:
    assert phase_results([]) == []
