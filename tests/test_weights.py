"""Trained networks in one file: what goes in comes out, to half precision, and what cannot be used says why."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sshsnet_core.data.cohorts.folder import read_folder
from sshsnet_core.methods import stage1, stage2
from sshsnet_core.methods.seen import Seen
from sshsnet_core.methods.sshsnet import SSHSNet, TrainedSSHSNet
from sshsnet_core.methods.stage1 import Stage1
from sshsnet_core.methods.stage2 import Stage2
from sshsnet_core.methods.weights import Weights, WeightsError, find_weights
from sshsnet_core.settings import load_settings
from sshsnet_core.study import Study
from sshsnet_core.transfer import adapted_weights

FIRST = Stage1(pretrained=True, cps=True)
SEEN = Seen(((4.0, 4.8), (0.7, 0.7), (0.7, 0.7)), ((48.0, 60.0), (280.0, 320.0), (140.0, 160.0)))
TOLD = {"method": "a test", "seed": 0}


def untrained(second, arches_apart):
    settings = load_settings("smoke").changed({"arches_apart": arches_apart})
    torch.manual_seed(0)
    branches = list(stage1.build(FIRST, settings, pretrained=False).branches)
    network = stage2.build(Stage2(second, FIRST), settings).network if second else None
    for module in [*branches, *([network] if network else [])]:
        module.eval()
    return Weights("A test", SSHSNet(FIRST, second), TrainedSSHSNet(settings, branches, network), SEEN, TOLD)


@pytest.fixture(scope="module")
def weights():
    return untrained(None, True)


@pytest.fixture
def path(weights, tmp_path):
    weights.write(tmp_path / "made" / "tiny.safetensors")
    return tmp_path / "made" / "tiny.safetensors"


@pytest.mark.parametrize(("second", "classes"), [(None, 29), ("ctam", 20)])
def test_what_is_written_is_read_again(second, classes, tmp_path):
    before = untrained(second, classes == 29)
    before.write(tmp_path / "tiny.safetensors")
    after = Weights.read(tmp_path / "tiny.safetensors")
    assert (after.title, after.seen, after.told, after.settings) == ("A test", SEEN, TOLD, before.settings)
    assert after.system == before.system
    image = np.random.default_rng(0).standard_normal((12, 64, 48)).astype(np.float32)
    there, back = before.trained(image), after.trained(image)
    assert back.shape == (classes, 12, 64, 48)
    np.testing.assert_allclose(back, there, atol=0.02)
    modules = [*after.trained.branches, *([after.trained.network] if second else [])]
    assert len(modules) == (3 if second else 2)
    for module in modules:
        assert not module.training
        assert all(tensor.dtype == torch.float32 for tensor in module.parameters())


def test_kernels_take_half_the_space_and_the_file_says_what_it_is(weights, path):
    tensors = load_file(path)
    assert {tensor.dtype for tensor in tensors.values() if tensor.ndim > 1} == {torch.float16}
    in_float32 = sum(p.numel() * 4 for branch in weights.trained.branches for p in branch.parameters())
    assert path.stat().st_size < 0.6 * in_float32
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["about"])
    assert about["settings"]["arches_apart"] is True
    assert about["seen"]["spacing_mm"][0] == [4.0, 4.8]
    assert [entry.name for entry in path.parent.iterdir()] == ["tiny.safetensors"]


def test_adapted_weights_are_those_that_were_trained_on(tmp_path, monkeypatch):
    """What `make adapt` writes: other branches than it began with, the same stage 2, found by name."""
    monkeypatch.setenv("SSHSNET_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SSHSNET_PROFILE", "smoke")
    before = untrained("ctam", False)
    started = [{key: value.clone() for key, value in b.state_dict().items()} for b in before.trained.branches]
    study = Study.open("smoke")
    (tmp_path / "scans").mkdir()
    for case in study.cohort.unlabelled:
        shutil.copy(case.image, tmp_path / "scans")
    scans = read_folder(tmp_path / "scans")
    adapted_weights(before, scans, "mine").write(tmp_path / "mine.safetensors")
    after = Weights.read(find_weights("mine", tmp_path))
    assert after.title == f"A test, adapted to {len(scans.cases)} unlabelled scans"
    assert after.told["adapted"]["scans"] == len(scans.cases) == 2
    for branch, start in zip(after.trained.branches, started, strict=True):
        moved = [not torch.allclose(value, start[key], atol=1e-3) for key, value in branch.state_dict().items()]
        assert any(moved)
    for key, value in after.trained.network.state_dict().items():
        torch.testing.assert_close(value, before.trained.network.state_dict()[key], atol=1e-3, rtol=1e-3)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors do not exist"):
        Weights.read(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("content", [b"", b"no weights at all", None])
def test_a_damaged_file_is_told(content, path):
    path.write_bytes(path.read_bytes()[:-1000] if content is None else content)
    with pytest.raises(WeightsError, match=r"tiny\.safetensors are damaged"):
        Weights.read(path)


def test_another_programs_file_is_told(tmp_path):
    save_file({"w": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"other\.safetensors holds no SSHSNet"):
        Weights.read(tmp_path / "other.safetensors")


@pytest.mark.parametrize("change", ["tensors", "settings", "about"])
def test_a_file_that_does_not_fit_is_told(change, path):
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    about = json.loads(metadata["about"])
    if change == "tensors":
        del tensors[next(name for name, tensor in tensors.items() if tensor.ndim > 1)]
    elif change == "settings":
        about["settings"]["unknown"] = 1
    else:
        del about["seen"]
    save_file(tensors, path, {**metadata, "about": json.dumps(about)})
    with pytest.raises(WeightsError, match=r"tiny\.safetensors do not fit"):
        Weights.read(path)


def test_weights_are_found_by_name_and_by_path(path, tmp_path):
    assert find_weights("tiny", path.parent) == path
    assert find_weights(str(path), tmp_path) == path
    shipped = find_weights("phantom", path.parent)
    assert shipped.parts[-3:] == ("sshsnet_core", "weights", "phantom.safetensors")
    with pytest.raises(WeightsError, match="'tinny': use phantom, tiny or the path"):
        find_weights("tinny", path.parent)
