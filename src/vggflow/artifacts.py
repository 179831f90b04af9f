"""The name of every file that a stage reads or writes, relative to the workspace.

`dvc.yaml` names the same files; a contract test holds the two together.
"""

from pathlib import PurePosixPath as Path

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")
PIPELINE_LOCK = Path("dvc.lock")
VERSION = Path("vggflow.version")
COLUMNS = Path("columns.csv")

DATA = Path("data")
SAMPLE_DATA = DATA / "sample"
TRAIN_DATA, VALID_DATA = DATA / "train", DATA / "valid"
WEIGHTS = Path("weights")

VALIDATION = Path("validation")
MANIFEST = VALIDATION / "manifest.parquet"
TRAINING_IMAGES = VALIDATION / "training.parquet"
# Stages depend on these, not on the tables: another pandas or pyarrow writes equal tables in other bytes.
MANIFEST_DIGEST = VALIDATION / "manifest.json"
TRAINING_DIGEST = VALIDATION / "training.json"
REFERENCE = VALIDATION / "reference.json"
VALIDATION_RESULT = VALIDATION / "result.json"
DATA_DOCS = VALIDATION / "data_docs"
REPORT = VALIDATION / "report.html"

TRAINING = Path("model")
MODEL = TRAINING / "model.keras"
HISTORY = TRAINING / "history.json"
RUN = TRAINING / "run.json"

EVALUATION = Path("evaluation")
PREDICTIONS = EVALUATION / "predictions.parquet"
METRICS = EVALUATION / "metrics.json"
PLOTS = EVALUATION / "plots"
EVALUATION_REPORT = EVALUATION / "report.html"
EVALUATION_RUN = EVALUATION / "run.json"

STATE = Path(".vggflow")
OUTCOMES = STATE / "outcome"
GRAPHS = STATE / "graphs"
MLFLOW_DATABASE = STATE / "mlflow.db"
MLFLOW_ARTIFACTS = STATE / "mlartifacts"
PREFECT_HOME = STATE / "prefect"
