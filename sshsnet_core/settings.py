"""Section 4.3 as data: every number that a profile may set. An unknown key or a wrong type is an error."""

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sshsnet_core.anatomy import N_APART, N_CLASSES
from sshsnet_core.errors import StudyError

Positive = Annotated[int, Field(gt=0)]
StrideMultiple = Annotated[int, Field(gt=0, multiple_of=16)]


class SettingsError(StudyError, ValueError):
    """A profile or a parameter that cannot be used; the message says which key and what is wrong with it."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class CohortSettings(_Frozen):
    """Section 4.1. ``root`` is read by ``mrspineseg`` and ``folder``; counts, scale and seed by ``phantom``."""

    source: Literal["phantom", "mrspineseg", "folder"]
    root: str | None = None
    labelled: Positive = 172
    unlabelled: Positive = 43
    #: In-plane size of a phantom relative to MRSpineSeg's own (880 pixels of 0.34 mm): 1, 0.5, ...
    scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    #: Share of the phantoms that show T9, so that it can be scored; 0 keeps MRSpineSeg's own, 8 of 172.
    rare_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    #: Phantoms of many contrasts, artefacts, fields of view and diseases in place of MRSpineSeg's make-up: they teach
    #: for scans that nobody has labelled. Their masks tell posterior elements from bodies.
    randomised: bool = False
    #: The structures that the masks annotate, by name; None: all. What is not annotated is never background to learn.
    annotated: tuple[str, ...] | None = None
    #: Posterior elements in the masks: under their vertebra's label (as MRSpineSeg), with labels of their own
    #: (``anatomy.ARCHES``), or not annotated.
    arches: Literal["joined", "apart", "absent"] = "joined"
    seed: int = 2023
    folds: Annotated[int, Field(ge=2)] = 5


class PreprocessingSettings(_Frozen):
    """Section 4.2: the common spacing (z, rows, columns) in mm."""

    spacing_mm: tuple[float, float, float] = (4.4, 0.34, 0.34)


class Network2DSettings(_Frozen):
    """Section 3.1.1. ``decoder_channels`` is C3."""

    encoder: str = "se_resnext50_32x4d"
    decoder_channels: Positive = 256
    atrous_rates: tuple[int, int, int] = (12, 24, 36)
    #: A local file of encoder weights in place of the hub's or the package's.
    weights_file: str | None = None


class Network3DSettings(_Frozen):
    """Section 3.2. ``decoder_channels`` is C3 of the 3D network; ``atrous_rates`` are in plane (see deeplab3d)."""

    stem_channels: Positive = 64
    stage_channels: tuple[int, int, int, int] = (256, 512, 1024, 2048)
    stage_blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    groups: Positive = 32
    group_width: Positive = 4
    decoder_channels: Positive = 256
    low_level_channels: Positive = 48
    atrous_rates: tuple[int, int, int] = (2, 4, 6)
    ctam: Literal["residual", "printed"] = "residual"


class CoTrSettings(_Frozen):
    """CoTr (Xie et al. 2021), a row of Table 2; the defaults are the published network.

    ``channels`` are those after the stem, the first and the second stage; the third stage and the transformer have the
    last of them, a multiple of 3 and of ``heads``. ``layers`` to ``dropout`` are the transformer's. It is trained as
    nnU-Net is (``NNUNetSettings``), but for ``epochs`` of its own.
    """

    channels: tuple[Positive, Positive, Positive] = (64, 192, 384)
    stage_blocks: tuple[Positive, Positive, Positive] = (3, 3, 2)
    layers: Positive = 6
    heads: Positive = 6
    points: Positive = 4
    feed_forward: Positive = 1536
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    epochs: Positive = 1000


class NNUNetSettings(_Frozen):
    """2D and 3D nnU-Net (Isensee et al. 2021) and CoTr's training, rows of Table 2: what is pinned of nnU-Net's plans.

    Everything else is nnU-Net's own choice. The defaults are the paper's patches and nnU-Net's own sizes.
    """

    #: (z, rows, columns) in mm to which nnU-Net resamples; None: what the planner finds, which is the store's own.
    spacing_mm: tuple[float, float, float] | None = None
    #: (rows, columns), and (slices, rows, columns).
    patch_2d: tuple[Positive, Positive] = (896, 512)
    patch_3d: tuple[Positive, Positive, Positive] = (8, 640, 320)
    #: Channels of the first stage; they double from stage to stage up to the most.
    features: Positive = 32
    most_features_2d: Positive = 512
    most_features_3d: Positive = 320
    #: None: what the planner finds.
    batch_2d: Positive | None = None
    batch_3d: Positive | None = None
    epochs: Positive = 1000
    #: 2D nnU-Net's, whose steps are shorter; None: as many as ``epochs``.
    epochs_2d: Positive | None = None
    steps_per_epoch: Positive = 250
    validation_steps: Positive = 50
    #: Whether 3D networks are shown volumes mirrored left to right, in training and at test time, as nnU-Net does.
    #: Upside down and back to front are no matter of a profile: see ``NNUNet.upside_down``.
    mirror_slices: bool = True
    #: None: nnU-Net's own SGD from 0.01. A number: AdamW from there, as in nnU-Net's trainer variants; SGD spends its
    #: first hundreds of steps on telling spine from background, which is all that a small profile has.
    adam_learning_rate: Annotated[float, Field(gt=0)] | None = None


class TrainingSettings(_Frozen):
    """Section 4.3: one schedule. ``steps_per_epoch`` is what the study's effort multiplies."""

    epochs: Positive
    steps_per_epoch: Positive
    batch_size: Positive = 4
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    #: ``milestones``: x0.1 after each of them (the paper); ``cosine``: a short warm-up, then down to zero.
    schedule: Literal["milestones", "cosine"] = "milestones"
    milestones: tuple[int, ...] = ()
    gradient_clip: Annotated[float, Field(gt=0)] = 12.0
    precision: Literal["32-true", "bf16-mixed"] = "32-true"


class SpineParseNetSettings(_Frozen):
    """SpineParseNet (Pang et al. 2021), a row of Table 2; the defaults are the published sizes and schedules
    (but for what ``methods.spineparsenet.SpineParseNet`` lists).

    The steps are those in which about 138 training cases, or their slices, are seen once an epoch. ``parts`` is ours:
    into how many the training cases are divided, so that coarse networks score cases that they have not seen.
    """

    #: (rows, columns) to which whole slices are resized, for the coarse network and for the fine one.
    coarse_size: tuple[Positive, Positive] = (256, 128)
    fine_size: tuple[Positive, Positive] = (512, 256)
    #: Volumes of fewer slices are padded to so many.
    slices: Positive = 18
    #: Factor on all channels of the coarse network; the fine network's channels, from full resolution down.
    width: Annotated[float, Field(gt=0)] = 1.0
    unet_channels: tuple[Positive, ...] = (32, 64, 128, 256, 512)
    #: ``False``: the coarse network normalises what it is shown by that volume's own statistics in use, too, as it does
    #: in training where a step shows one. Running ones then describe no volume at all.
    running_statistics: bool = True
    parts: Annotated[int, Field(ge=2)] = 5
    train_coarse: TrainingSettings = TrainingSettings(
        epochs=100, steps_per_epoch=69, batch_size=2, weight_decay=1e-4, milestones=(33, 67)
    )
    train_graph: TrainingSettings = TrainingSettings(
        epochs=50, steps_per_epoch=69, batch_size=2, weight_decay=1e-4, milestones=(17, 33)
    )
    train_fine: TrainingSettings = TrainingSettings(
        epochs=100, steps_per_epoch=210, batch_size=8, learning_rate=1e-4, weight_decay=1e-4, milestones=(33, 66)
    )


class CPSSettings(_Frozen):
    """Section 3.1.2. ``weight`` is lambda of Equation 6; ``pool`` says where the unlabelled images come from."""

    weight: Annotated[float, Field(ge=0)] = 1.0
    #: Share of the epochs, at the start, that learn from labels only (the paper: none). Pseudo labels mean nothing yet.
    labels_only: Annotated[float, Field(ge=0, lt=1)] = 0.0
    pool: Literal["test", "held-out", "folder"] = "test"
    pool_folder: str | None = None

    @model_validator(mode="after")
    def _folder_is_named(self) -> "CPSSettings":
        if self.pool == "folder" and not self.pool_folder:
            raise ValueError("pool: folder needs pool_folder, the folder that holds the unlabelled volumes")
        return self


class AdaptationSettings(_Frozen):
    """From phantoms to unlabelled scans: CPS goes on from trained branches, with ``weight`` for Equation 6's lambda."""

    weight: Annotated[float, Field(gt=0)] = 1.0
    train: TrainingSettings = TrainingSettings(
        epochs=4, steps_per_epoch=10, batch_size=8, learning_rate=5e-4, schedule="cosine"
    )


class Settings(_Frozen):
    """One profile: the whole study at one size."""

    name: str
    cohort: CohortSettings
    preprocessing: PreprocessingSettings = PreprocessingSettings()
    network_2d: Network2DSettings = Network2DSettings()
    network_3d: Network3DSettings = Network3DSettings()
    nnunet: NNUNetSettings = NNUNetSettings()
    cotr: CoTrSettings = CoTrSettings()
    spineparsenet: SpineParseNetSettings = SpineParseNetSettings()
    cps: CPSSettings = CPSSettings()
    #: Whether the networks tell posterior elements from bodies: classes beyond the paper's 20.
    arches_apart: bool = False
    #: Size (h, w) of stage 1's input after downsampling once.
    slice_size: tuple[int, int] = (440, 224)
    #: Share of stage 1's labelled slices that are drawn evenly from all, those that show nothing among them; the rest
    #: is category-balanced. Balanced alone, the slices at the sides of the spine are hardly seen.
    even_slices: Annotated[float, Field(ge=0, le=1)] = 0.0
    #: Over what stage 1's Dice loss (Equation 11) sums up: each slice, as printed, or the slices of a batch. Over a
    #: slice it makes structures too large where slices cut through their sides (``learning.losses.soft_dice``).
    slice_dice_over: Literal["sample", "batch"] = "sample"
    #: Share of a structure that a slice, cut and moved in training, must still show for its label to stay
    #: (``data.slices.drop_cut_off``). 0 keeps every label.
    in_view: Annotated[float, Field(ge=0, le=1)] = 0.0
    #: Size (Z, h, w) of a stage 2 patch at full resolution; h and w are multiples of the 3D network's stride of 16.
    patch: tuple[Positive, StrideMultiple, StrideMultiple] = (12, 192, 192)
    #: Share of a window that the next one covers again, at inference.
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    #: A name that holds less than this share of the smallest such structure in any training mask is a speck and is
    #: dropped (``methods.specks``). 0 keeps all, as the paper.
    speck_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    train_2d: TrainingSettings
    #: SSHSNet-3D: whole volumes, downsampled once.
    train_3d_whole: TrainingSettings
    train_3d: TrainingSettings
    adaptation: AdaptationSettings = AdaptationSettings()

    @property
    def classes(self) -> int:
        """Of SSHSNet's networks: the paper's 20, or 29 with arches apart."""
        return N_APART if self.arches_apart else N_CLASSES

    def changed(self, changes: Mapping[str, Any]) -> "Settings":
        """These settings with other values at dotted keys, such as ``cps.weight``. ``SettingsError`` if unknown."""
        content = self.model_dump()
        for key, value in changes.items():
            *parts, last = key.split(".")
            place = content
            for part in parts:
                place = place.get(part, {})
            if not isinstance(place, dict) or last not in place:
                raise SettingsError(f"No setting is called {key!r}.")
            place[last] = value
        return Settings.model_validate(content)


PROFILES = ("smoke", "glance", "mini", "real", "gpu", "paper")


def load_settings(profile: str) -> Settings:
    """The settings of one of ``PROFILES``, or of the path of a YAML file of one's own; paths in it are relative to it.

    Raises ``SettingsError`` for an unknown profile, an unknown key or a value of the wrong type.
    """
    path = Path(profile).expanduser()
    if profile in PROFILES:
        text = files("sshsnet_core.profiles").joinpath(f"{profile}.yaml").read_text(encoding="utf-8")
    elif path.suffix in {".yaml", ".yml"} and path.is_file():
        text = path.read_text(encoding="utf-8")
    else:
        raise SettingsError(f"No profile {profile!r}: use one of {', '.join(PROFILES)} or the path of a YAML file.")
    try:
        # Through JSON, pydantic's strict mode reads a list as a tuple and still refuses "4" for 4.
        settings = Settings.model_validate_json(json.dumps(yaml.safe_load(text)))
    except yaml.YAMLError as error:
        raise SettingsError(f"Profile {profile} is not readable YAML: {error}") from error
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise SettingsError(f"Profile {profile} cannot be used:\n" + "\n".join(lines)) from error
    named = {
        "cohort.root": settings.cohort.root,
        "cps.pool_folder": settings.cps.pool_folder,
        "network_2d.weights_file": settings.network_2d.weights_file,
    }
    beside = path.resolve().parent
    return settings.changed({key: str(beside / Path(name).expanduser()) for key, name in named.items() if name})
