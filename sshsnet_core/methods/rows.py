"""The rows of Tables 1 and 2 as one table of switches (sections 4.3 and 5). A new row is one line here."""

from dataclasses import dataclass, replace

from sshsnet_core.methods.nnunet import NNUNet
from sshsnet_core.methods.spineparsenet import SpineParseNet
from sshsnet_core.methods.sshsnet import SSHSNet
from sshsnet_core.methods.stage1 import Stage1
from sshsnet_core.methods.switches import Changed
from sshsnet_core.methods.system import System
from sshsnet_core.settings import Settings, SettingsError


@dataclass(frozen=True)
class Method:
    """One row: its file-safe key, its title as in the paper's tables, and the system with its switches."""

    key: str
    title: str
    system: System
    #: One training case in so many is labelled.
    one_in: int = 1


SCRATCH = Stage1(pretrained=False, cps=False)
PRETRAINED = Stage1(pretrained=True, cps=False)
CPS = Stage1(pretrained=True, cps=True)

OURS = Method("sshsnet", "SSHSNet", SSHSNet(CPS, "ctam"))

TABLE_1 = (
    Method("2d-wo-pre-cps", "SSHSNet-2D-w/o-Pre-CPS", SSHSNet(SCRATCH, None)),
    Method("2d-wo-cps", "SSHSNet-2D-w/o-CPS", SSHSNet(PRETRAINED, None)),
    Method("2d-cps", "SSHSNet-2D-CPS", SSHSNet(CPS, None)),
    Method("3d", "SSHSNet-3D", SSHSNet(None, "whole")),
    Method("wo-ctam", "SSHSNet-w/o-CTAM", SSHSNet(CPS, "concatenation")),
    OURS,
)

BASELINES = (
    Method("nnunet-2d", "2D nnU-Net", NNUNet("2d")),
    Method("nnunet-3d", "3D nnU-Net", NNUNet("3d_fullres")),
    Method("cotr", "CoTr", NNUNet("3d_fullres", network="cotr")),
    Method("spineparsenet", "SpineParseNet", SpineParseNet()),
)

#: SSHSNet without the test images in its unlabelled pool: the held-out fold's images take their place.
INDUCTIVE = Method("sshsnet-inductive", "SSHSNet, inductive", SSHSNet(Stage1(True, True, pool="held-out"), "ctam"))

TABLE_2 = (*BASELINES, OURS, INDUCTIVE)
#: The titles of each table's rows, by its number: evaluation, which must not know the methods, is told them.
TITLES = {number: [row.title for row in rows] for number, rows in ((1, TABLE_1), (2, TABLE_2))}

#: CPS as `mini` sets it takes nearly three times as long as one network on labels; so does this.
EQUAL_TIME = Method(
    "2d-wo-cps-equal-time", "SSHSNet-2D-w/o-CPS, equal time", SSHSNet(replace(PRETRAINED, longer=3.0), None)
)

#: The titles that say what CPS is worth: at equal steps the first two, at equal time the last two.
CPS_COMPARISON = ("SSHSNet-2D-w/o-CPS", "SSHSNet-2D-CPS", EQUAL_TIME.title)

#: The baselines as their authors released them, where that mirrors or turns spines upside down, mixes up axes or shows
#: the second stage what the first has learnt by heart.
AS_RELEASED = (
    Method("nnunet-2d-released", "2D nnU-Net, upside down", NNUNet("2d", upside_down=True)),
    Method("nnunet-3d-released", "3D nnU-Net, upside down", NNUNet("3d_fullres", upside_down=True)),
    Method("cotr-released", "CoTr, released order", NNUNet("3d_fullres", network="cotr-released-order")),
    Method("spineparsenet-released", "SpineParseNet, in-sample", SpineParseNet(out_of_fold=False)),
)

WITHOUT_PRETRAINING, WITHOUT_CPS, CPS_ALONE, _, WITHOUT_CTAM, _ = TABLE_1


def _partly_labelled(row: Method, first: Stage1, one_in: int) -> Method:
    """A row of stage 1 alone where one training case in so many is labelled."""
    return Method(f"{row.key}-1-in-{one_in}", f"{row.title}, 1 in {one_in} labelled", SSHSNet(first, None), one_in)


#: Partition protocols, as CPS is judged by elsewhere (Chen et al. 2021): one training case in so many is labelled, and
#: CPS's pool are the images of the others (of 1 in 1, where there are none, the profile's). By the title of the row
#: that it is where all are labelled.
PARTITIONS = {
    **{
        one_in: {
            CPS_ALONE.title: _partly_labelled(CPS_ALONE, replace(CPS, pool="training"), one_in),
            WITHOUT_CPS.title: _partly_labelled(WITHOUT_CPS, PRETRAINED, one_in),
            EQUAL_TIME.title: _partly_labelled(EQUAL_TIME, replace(PRETRAINED, longer=3.0), one_in),
        }
        for one_in in (16, 8, 4)
    },
    1: {row.title: row for row in (CPS_ALONE, WITHOUT_CPS, EQUAL_TIME)},
}


@dataclass(frozen=True)
class Switch:
    """One choice of ours, or of the paper, turned the other way: the row that turns it, and the row that it is held
    against."""

    choice: str
    turned: Method
    base: Method

    def turns(self, settings: Settings) -> bool:
        """Whether it turns anything: a profile may have chosen so already."""
        system = self.turned.system
        return not isinstance(system, Changed) or settings.changed(system.changes) != settings


#: What each part of SSHSNet is worth: the row that has it, and the row that differs in it alone.
PARTS = (
    Switch("pretraining", WITHOUT_CPS, WITHOUT_PRETRAINING),
    Switch("CPS", CPS_ALONE, WITHOUT_CPS),
    Switch("the second stage", OURS, CPS_ALONE),
    Switch("CTAM", OURS, WITHOUT_CTAM),
    Switch("test images in the pool, not held-out ones", OURS, INDUCTIVE),
)

#: Notebook 04's table. Stage 1's choices are judged by stage 1's own map, stage 2's by the whole.
SWITCHES = (
    Switch(
        "CTAM as printed, not residual",
        Method("ctam-printed", "SSHSNet, CTAM as printed", Changed(OURS.system, {"network_3d.ctam": "printed"})),
        OURS,
    ),
    Switch(
        "no CutMix",
        Method("no-cutmix", "SSHSNet-2D-CPS, no CutMix", SSHSNet(replace(CPS, cutmix=False), None)),
        CPS_ALONE,
    ),
    Switch(
        "pseudo labels in training mode",
        Method(
            "labels-in-training-mode",
            "SSHSNet-2D-CPS, labels in training mode",
            SSHSNet(replace(CPS, evaluating=False), None),
        ),
        CPS_ALONE,
    ),
    Switch(
        "lambda 0.1, not 1",
        Method("lambda-0.1", "SSHSNet-2D-CPS, lambda 0.1", Changed(CPS_ALONE.system, {"cps.weight": 0.1})),
        CPS_ALONE,
    ),
    Switch(
        "structures cut off by augmentation stay labelled",
        Method("cut-off-labelled", "SSHSNet-2D-CPS, cut off and labelled", Changed(CPS_ALONE.system, {"in_view": 0.0})),
        CPS_ALONE,
    ),
    Switch(
        "3D ASPP at rates 12, 24, 36",
        Method(
            "aspp-printed",
            "SSHSNet, ASPP rates as printed",
            Changed(OURS.system, {"network_3d.atrous_rates": (12, 24, 36)}),
        ),
        OURS,
    ),
    Switch(
        "patches of 64 by 64 pixels",
        Method("patch-64", "SSHSNet, patches of 64 by 64", Changed(OURS.system, {"patch": (12, 64, 64)})),
        OURS,
    ),
    Switch("held-out images in the pool, not test images", INDUCTIVE, OURS),
    Switch(
        "no ImageNet weights, as the baselines",
        Method("wo-pre", "SSHSNet-w/o-Pre", SSHSNet(replace(CPS, pretrained=False), "ctam")),
        OURS,
    ),
)

METHODS = {
    m.key: m
    for m in (
        *(*TABLE_1, *BASELINES, INDUCTIVE, EQUAL_TIME, *AS_RELEASED, *(switch.turned for switch in SWITCHES)),
        *(method for partition in PARTITIONS.values() for method in partition.values()),
    )
}


def method_by_key(key: str) -> Method:
    """The row of that key; ``SettingsError`` with the known keys for any other."""
    if key not in METHODS:
        raise SettingsError(f"No method {key!r}; known are {', '.join(METHODS)}.")
    return METHODS[key]
