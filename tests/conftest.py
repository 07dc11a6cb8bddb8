"""Tiny stored cases that tests of sampling and training share, and which tests begin."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from stored_cases import MakeCase

from sshsnet_core.data.preprocessing import Restoration
from sshsnet_core.data.store import StoredCase
from sshsnet_core.data.volumes import Geometry

# The same examples in every run: what fails once fails again.
settings.register_profile("suite", derandomize=True)
settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that ask for more time begin: of two files at a time, the longest must not be left alone at the end."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


@pytest.fixture
def make_case(tmp_path: Path) -> MakeCase:
    """Store a preprocessed case: ``make_case(name, image (Z, H, W), labels (Z, H, W) or None)``."""

    def make(name: str, image: np.ndarray, labels: np.ndarray | None = None) -> StoredCase:
        folder = tmp_path / "store" / name
        folder.mkdir(parents=True)
        np.save(folder / "image.npy", image.astype(np.float32))
        structures: frozenset[int] = frozenset()
        if labels is not None:
            np.save(folder / "labels.npy", labels.astype(np.uint8))
            positions = np.argwhere(labels)
            np.save(folder / "voxels.npy", np.column_stack([labels[labels > 0], positions]).astype(np.int32))
            structures = frozenset(np.unique(labels[labels > 0]).tolist())
        z, h, w = image.shape
        restoration = Restoration((z, h, w), (4.4, 0.7, 0.7), (z, h, w), (0, h, 0, w))
        return StoredCase(name, name, folder, restoration, Geometry((z, h, w), np.eye(4)), structures)

    return make
