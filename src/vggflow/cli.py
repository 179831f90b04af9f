"""The command line: which commands there are, in the order of work; errors are one line with the right exit code."""

import functools
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from vggflow import __version__, artifacts
from vggflow.commands import (
    audit,
    cache,
    clean,
    compare,
    data,
    data_accept,
    data_pack,
    data_relabel,
    demo,
    deploy,
    doctor,
    drift,
    evaluate,
    explain,
    export,
    init,
    lineage,
    models,
    predict,
    promote,
    reference,
    register,
    reproduce,
    retrain,
    rollback,
    runs,
    search,
    serve,
    status,
    submit,
    suggest,
    summary,
    train,
    ui,
    up,
    validate,
)
from vggflow.console import err, say
from vggflow.credentials import hidden_from_output
from vggflow.errors import Interrupted, VggflowError
from vggflow.processes.stage import exit_fast

app = typer.Typer(
    help="Retrains VGG16 image classifiers from folders of images, with evidence.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Brings images in, versions, compares and samples them.", no_args_is_help=True)

DATA: Mapping[str, Callable[..., None]] = {
    "import": data.import_command,
    "diff": data.diff_command,
    "accept": data_accept.accept_command,
    "restore": data_accept.restore_command,
    "relabel": data_relabel.relabel_command,
    "pack": data_pack.pack_command,
    "unpack": data_pack.unpack_command,
    "sample": data.sample_command,
}
# In groups and in the order of work, as `--help` shows them.
COMMANDS: Mapping[str, Mapping[str, Callable[..., None]]] = {
    "Data": {
        "init": init.command,
        "validate": validate.command,
        "audit": audit.command,
        "suggest": suggest.command,
    },
    "Train": {
        "retrain": retrain.command,
        "train": train.command,
        "evaluate": evaluate.command,
        "search": search.command,
        "register": register.command,
        "reference": reference.command,
    },
    "Judge": {
        "runs": runs.command,
        "models": models.command,
        "promote": promote.command,
        "rollback": rollback.command,
        "lineage": lineage.command,
        "reproduce": reproduce.command,
    },
    "Use": {
        "predict": predict.command,
        "submit": submit.command,
        "serve": serve.command,
        "export": export.command,
        "drift": drift.command,
        "explain": explain.command,
        "compare": compare.command,
        "summary": summary.command,
    },
    "Operate": {
        "status": status.command,
        "deploy": deploy.command,
        "up": up.command,
        "ui": ui.command,
        "doctor": doctor.command,
        "cache": cache.command,
        "clean": clean.command,
        "demo": demo.command,
    },
}


def main() -> None:
    """The program."""
    exit_fast(run())


def run() -> int:
    """Runs the command of `sys.argv`; errors are one line on stderr, and the exit code says what kind."""
    # Before anything imports TensorFlow or MLflow, which look at these when they start.
    for name, level in (("TF_CPP_MIN_LOG_LEVEL", "3"), ("MLFLOW_LOGGING_LEVEL", "WARNING")):
        os.environ.setdefault(name, level)
    with hidden_from_output():
        return _run()


def _run() -> int:
    try:
        # Outside of standalone mode `typer.Exit` does not end the program: its code comes back instead.
        code = app(standalone_mode=False)
        return code if isinstance(code, int) else 0
    except VggflowError as error:
        return _ended(error)
    except (KeyboardInterrupt, typer.Abort):
        return _ended(Interrupted())
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    except BrokenPipeError:
        # The reader is gone, as after `| head`: Python would fail once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        code = _shown_by_click(error)
        if code is None:
            raise
        return code


def _ended(error: VggflowError) -> int:
    err.print(f"vggflow: {error}", markup=False)
    return error.exit_code


def _saying_that_it_was_interrupted(work: Callable[..., None]) -> Callable[..., None]:
    """Typer ends a command that Ctrl-C stops with 130, as it should, and without a word."""

    @functools.wraps(work)
    def run(*given: Any, **named: Any) -> None:
        try:
            work(*given, **named)
        except KeyboardInterrupt:
            raise Interrupted from None

    return run


def _shown_by_click(error: Exception) -> int | None:
    """Lets click say what is wrong with the arguments; none for errors that are not about them."""
    show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if not callable(show) or not isinstance(code, int):
        return None
    show()
    return code


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    folder: Annotated[Path, typer.Option("--workspace", "-C", help="The workspace.")] = Path(),
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Retrains VGG16 image classifiers from folders of images, with evidence."""
    if version:
        say(f"vggflow {__version__}")
        raise typer.Exit
    context.obj = folder
    # Not for `up`, which starts these servers and must not be pointed at them.
    if context.invoked_subcommand != "up" and (folder / artifacts.STATE / "stack").is_dir():
        from vggflow.stack import log_ins

        log_ins.use(folder)


def _assemble() -> None:
    for name, work in DATA.items():
        data_app.command(name)(_saying_that_it_was_interrupted(work))
    for group, commands in COMMANDS.items():
        for name, work in commands.items():
            app.command(name, rich_help_panel=group)(_saying_that_it_was_interrupted(work))
    app.add_typer(data_app, name="data", rich_help_panel="Data")


_assemble()

if __name__ == "__main__":
    main()
