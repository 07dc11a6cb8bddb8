"""The rows of Table 1 as one table of switches (section 4.3). A new row is one line here."""

from dataclasses import dataclass
from typing import Literal

from sshsnet_core.settings import SettingsError


@dataclass(frozen=True)
class Stage1:
    """Stage 1's switches: ImageNet encoder or random start; two networks under CPS or one on labels alone.

    ``longer`` multiplies the steps: a row of our own that trains for the time that CPS takes.
    """

    pretrained: bool
    cps: bool
    longer: float = 1.0

    @property
    def key(self) -> str:
        """A name for its folder: rows that share a stage 1 share its training."""
        parts = ["2d", "imagenet" if self.pretrained else "scratch", *(["cps"] if self.cps else [])]
        return "-".join(parts + ([f"x{self.longer:g}"] if self.longer != 1 else []))


@dataclass(frozen=True)
class Method:
    """One row: its title as in the paper's tables, its file-safe key, and its two stages.

    ``stage2``: ``ctam`` or ``concatenation`` fuse stage 1 into 3D patches; ``whole`` is the 3D network alone on whole
    volumes, downsampled once; None stops after stage 1.
    """

    key: str
    title: str
    stage1: Stage1 | None
    stage2: Literal["ctam", "concatenation", "whole"] | None


SCRATCH = Stage1(pretrained=False, cps=False)
PRETRAINED = Stage1(pretrained=True, cps=False)
CPS = Stage1(pretrained=True, cps=True)

TABLE_1 = (
    Method("2d-wo-pre-cps", "SSHSNet-2D-w/o-Pre-CPS", SCRATCH, None),
    Method("2d-wo-cps", "SSHSNet-2D-w/o-CPS", PRETRAINED, None),
    Method("2d-cps", "SSHSNet-2D-CPS", CPS, None),
    Method("3d", "SSHSNet-3D", None, "whole"),
    Method("wo-ctam", "SSHSNet-w/o-CTAM", CPS, "concatenation"),
    Method("sshsnet", "SSHSNet", CPS, "ctam"),
)

#: Rows of our own. CPS as `mini` sets it takes about three times as long as one network on labels; so does this.
OUR_OWN = (Method("2d-wo-cps-equal-time", "SSHSNet-2D-w/o-CPS, equal time", Stage1(True, False, longer=3.0), None),)

#: The titles that say what CPS is worth: at equal steps the first two, at equal time the last two.
CPS_COMPARISON = ("SSHSNet-2D-w/o-CPS", "SSHSNet-2D-CPS", "SSHSNet-2D-w/o-CPS, equal time")

METHODS = {method.key: method for method in TABLE_1 + OUR_OWN}


def method_by_key(key: str) -> Method:
    """The row of that key; ``SettingsError`` with the known keys for any other."""
    if key not in METHODS:
        raise SettingsError(f"No method {key!r}; known are {', '.join(METHODS)}.")
    return METHODS[key]
