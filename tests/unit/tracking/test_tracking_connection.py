"""What MLflow raises, in one line: what a person has to change is not tried again."""

from http import HTTPStatus

import pytest
import requests

from vggflow.errors import LogInRefused, VggflowError
from vggflow.tracking.connection import mlflow_errors_as_one_line


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (HTTPStatus.UNAUTHORIZED, LogInRefused),
        (HTTPStatus.FORBIDDEN, LogInRefused),
        (HTTPStatus.TOO_MANY_REQUESTS, VggflowError),
        (HTTPStatus.BAD_GATEWAY, VggflowError),
    ],
)
def test_a_refused_log_in_is_not_tried_again_and_a_server_that_fails_is(
    status: HTTPStatus, kind: type[VggflowError]
) -> None:
    answer = requests.Response()
    answer.status_code, answer.url = status, "http://127.0.0.1/api"
    with pytest.raises(VggflowError) as raised, mlflow_errors_as_one_line():
        answer.raise_for_status()
    assert type(raised.value) is kind
    assert raised.value.retry == (kind is VggflowError)
    assert len(str(raised.value).splitlines()) == 1
