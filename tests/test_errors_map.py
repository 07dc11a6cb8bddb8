import numpy as np
import pytest

from sshsnet_core.anatomy import NAMES
from sshsnet_core.evaluation.metrics import score_case
from sshsnet_core.pictures.errors_map import Error, dsc, error_map


def test_every_error_has_its_kind() -> None:
    truth = np.array([[0, 0, 3, 3, 4]], np.uint8)
    labels = np.array([[0, 3, 0, 3, 3]], np.uint8)
    expected = [[0, Error.INVENTED, Error.MISSED, 0, Error.WRONG_NAME]]
    assert error_map(labels, truth).tolist() == expected
    assert [error.title for error in Error] == ["missed", "invented", "wrong name"]


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        error_map(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8))


def test_the_dsc_is_the_one_of_the_results() -> None:
    random = np.random.default_rng(0)
    truth, labels = (random.integers(0, 9, (3, 12, 12)).astype(np.uint8) for _ in range(2))
    labels[labels == 8] = 12
    rows = {s["structure"]: s["value"] for s in score_case(labels, truth, (4.4, 1, 1)) if s["metric"] == "dsc"}
    assert dsc(labels, truth) == pytest.approx(rows)
    assert list(dsc(labels, truth)) == [*NAMES[:8], NAMES[11]]
