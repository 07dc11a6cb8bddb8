"""What README.md and figures/README.md say, and the tables in git that they say it of."""

import itertools
import json
from pathlib import Path

import pandas as pd

from sshsnet_core.anatomy import NAMES
from sshsnet_core.evaluation.captions import IMAGES
from sshsnet_core.evaluation.summary import scores_by_subject
from sshsnet_core.methods.rows import OURS
from sshsnet_core.study import REPOSITORY

README = REPOSITORY / "README.md"
#: What was measured besides the default effort's table.
MEASURED = REPOSITORY / "figures" / "README.md"
REFERENCE = REPOSITORY / "figures" / "reference"
#: The default again, where arithmetic differs in the last digits.
OTHER_MACHINE = REFERENCE / "other_machine"
#: Both tables over all five folds.
FIVE_FOLDS = REFERENCE / "folds5"


def words(page: Path) -> str:
    """A page without its line breaks."""
    return " ".join(page.read_text(encoding="utf-8").split())


def table(page: Path, header: str) -> list[list[str]]:
    """The cells of the first table of a page whose header begins so, row by row."""
    lines = page.read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line.replace(" ", "").startswith(header))
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines[first + 2 :])
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def statistics(folder: Path) -> pd.Series:
    """What notebook 06 wrote beside Tables 1 and 2, by row, split and name."""
    tables = pd.concat([pd.read_csv(page) for page in sorted(folder.glob("table*_statistics.csv"))])
    return tables.drop_duplicates(["row", "split", "statistic"]).set_index(["row", "split", "statistic"])["value"]


#: With the default number of training steps, and with more.
BY_EFFORT = {1: statistics(REFERENCE), 4: statistics(REFERENCE / "effort4")}
ELSEWHERE = statistics(OTHER_MACHINE)


def means(values: pd.Series, row: str, split: str) -> str:
    return " / ".join(f"{values[row, split, f'mean of {what}']:.2f}" for what in ("subjects", "classes"))


def parts(folder: Path) -> pd.DataFrame:
    """What notebook 06 wrote of what each part is worth, by part and images."""
    return pd.read_csv(folder / "parts.csv").set_index(["part", "images", "quantity"])["value"].unstack()


def worth(folder: Path, part: str) -> str:
    """What a part was worth on the held-out cases and on the test images, with the intervals."""
    measured_parts = parts(folder)
    if part not in measured_parts.index:
        return "not run"
    of_images = [measured_parts.loc[(part, images)] for images in IMAGES.values()]
    return " / ".join(f"{of['difference']:+.1f} [{of['low']:.1f}, {of['high']:.1f}]" for of in of_images)


def finds(results: pd.DataFrame, split: str) -> tuple[int, int, set[str]]:
    """How many structures 2D nnU-Net finds, how many of them it outlines better than SSHSNet, and which it lacks."""
    titles = ("2D nnU-Net", OURS.title)
    theirs, ours = (scores_by_subject(results, title, split).mean()[list(NAMES)] for title in titles)
    found = theirs > 0
    return found.sum(), (theirs > ours)[found].sum(), set(theirs.index[~found])


def seconds(folder: Path, row: str, stage: str = "") -> float:
    """How long a row's trainings took that stand behind a folder's held-out cases."""
    pages = sorted(folder.glob(f"{row}-fold?-validation.json"))
    assert pages
    spent = [json.loads(page.read_text(encoding="utf-8"))["durations_s"] for page in pages]
    return sum(s for of in spent for what, s in of.items() if what.startswith("training") and stage in what)
