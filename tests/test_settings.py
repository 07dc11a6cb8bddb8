"""Profiles: an unknown key, a wrong type or a size that cannot work is told by name."""

from pathlib import Path

import pytest
import yaml

from sshsnet_core.settings import PROFILES, SettingsError, load_settings

MINIMAL = {
    "name": "own",
    "cohort": {"source": "phantom"},
    "train_2d": {"epochs": 1, "steps_per_epoch": 1},
    "train_3d_whole": {"epochs": 1, "steps_per_epoch": 1},
    "train_3d": {"epochs": 1, "steps_per_epoch": 1},
}


def write(folder: Path, **changes: object) -> str:
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, **changes}))
    return str(path)


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_load_under_their_own_names(profile: str) -> None:
    assert load_settings(profile).name == profile


def test_paper_profile_is_section_4_3() -> None:
    paper = load_settings("paper")
    assert (paper.slice_size, paper.patch) == ((440, 224), (12, 192, 192))
    assert (paper.network_2d.encoder, paper.network_2d.decoder_channels) == ("se_resnext50_32x4d", 256)
    assert paper.network_3d.stage_blocks == (3, 4, 6, 3)
    assert paper.cps.weight == 1
    assert paper.cps.labels_only == 0
    for training, epochs, milestones in (
        (paper.train_2d, 1000, (50, 400)),
        (paper.train_3d_whole, 1000, (50, 400)),
        (paper.train_3d, 150, (25, 100)),
    ):
        assert (training.epochs, training.milestones, training.batch_size) == (epochs, milestones, 4)
        assert (training.learning_rate, training.schedule, training.gradient_clip) == (1e-3, "milestones", 12)
    assert paper.preprocessing.spacing_mm == (4.4, 0.34, 0.34)
    assert paper.cps.pool == "test"
    # What the paper does not have.
    assert (paper.in_view, paper.even_slices, paper.speck_share, paper.slice_dice_over) == (0, 0, 0, "sample")


def test_profile_of_ones_own(tmp_path: Path) -> None:
    assert load_settings(write(tmp_path)).name == "own"


def test_paths_in_a_profile_are_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    cohort = {"source": "folder", "root": "volumes"}
    cps = {"pool": "folder", "pool_folder": "~/scans"}
    settings = load_settings(write(tmp_path, cohort=cohort, cps=cps, network_2d={"weights_file": "/weights.pth"}))
    assert settings.cohort.root == str(tmp_path / "volumes")
    assert settings.cps.pool_folder == str(tmp_path / "home" / "scans")
    assert settings.network_2d.weights_file == "/weights.pth"


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings("mini").name = "maxi"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"cps": {"wieght": 2.0}}, "cps.wieght"),
        ({"overlap": "0.5"}, "overlap"),
        ({"overlap": 1.0}, "overlap"),
        ({"patch": [12, 100, 96]}, "patch"),
        ({"cohort": {"source": "spine"}}, "cohort.source"),
        ({"train_2d": {"epochs": 0, "steps_per_epoch": 1}}, "train_2d.epochs"),
    ],
)
def test_what_is_wrong_is_told_by_its_key(tmp_path: Path, changes: dict[str, object], told: str) -> None:
    with pytest.raises(SettingsError, match=told.replace(".", r"\.")):
        load_settings(write(tmp_path, **changes))


def test_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="smoke, glance, mini, real, gpu, paper"):
        load_settings("huge")


def test_unreadable_yaml(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("name: [")
    with pytest.raises(SettingsError, match="not readable YAML"):
        load_settings(str(path))
