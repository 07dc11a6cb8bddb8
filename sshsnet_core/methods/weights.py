"""A trained SSHSNet in one small file, to be used without the study that trained it, and to be handed on.

Half precision is what the file holds and float32 what is computed with: twice the networks for the same megabytes. The
file says itself what it is: its settings, its switches, what training has seen, what made it.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from sshsnet_core.errors import StudyError
from sshsnet_core.methods import stage1, stage2
from sshsnet_core.methods.seen import Seen
from sshsnet_core.methods.sshsnet import SSHSNet, TrainedSSHSNet
from sshsnet_core.methods.stage1 import Stage1
from sshsnet_core.methods.stage2 import Stage2
from sshsnet_core.settings import Settings

#: The weights that come with the package: trained on randomised phantoms alone.
SHIPPED = Path(__file__).resolve().parents[1] / "weights" / "phantom.safetensors"
_FORMAT = "sshsnet 1"


class WeightsError(StudyError, RuntimeError):
    """A weights file that cannot be used; the message says which and what to do."""


@dataclass(frozen=True)
class Weights:
    """Trained networks and what their file says of them. ``told`` is the provenance, for reports."""

    title: str
    system: SSHSNet
    trained: TrainedSSHSNet
    seen: Seen
    told: dict[str, Any]

    @property
    def settings(self) -> Settings:
        """The profile that they were trained with."""
        return self.trained.settings

    def write(self, path: Path) -> None:
        """Write one safetensors file, whole or not at all."""
        tensors = {name: _halved(tensor) for name, tensor in _module(self.trained).state_dict().items()}
        first = self.system.first
        about = {
            "title": self.title,
            "settings": self.settings.model_dump(mode="json"),
            "pair": first is not None and first.cps,
            "second": self.system.second,
            "seen": asdict(self.seen),
            "told": self.told,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_bytes(save(tensors, {"format": _FORMAT, "about": json.dumps(about)}))
        os.replace(temporary, path)

    @classmethod
    def read(cls, path: Path) -> "Weights":
        """The networks in evaluation mode. ``WeightsError`` for a missing, damaged or foreign file."""
        if not path.is_file():
            raise WeightsError(f"The weights {path} do not exist.")
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"The weights {path} are damaged or no safetensors file ({error}).") from error
        if metadata.get("format") != _FORMAT:
            raise WeightsError(f"{path} holds no SSHSNet of this study's format, {_FORMAT!r}.")
        try:
            about = json.loads(metadata["about"])
            settings = Settings.model_validate_json(json.dumps(about["settings"]))
            system = SSHSNet(Stage1(pretrained=True, cps=about["pair"]), about["second"])
            trained = _empty(system, settings)
            # A network of other sizes is a RuntimeError.
            _module(trained).load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
            seen, title, told = Seen.from_dict(about["seen"]), about["title"], about["told"]
        except (KeyError, ValueError, RuntimeError) as error:
            raise WeightsError(
                f"The weights {path} do not fit this version of the study; use its own, or make them anew."
            ) from error
        _module(trained).eval()
        return cls(title, system, trained, seen, told)


def find_weights(name: str, folder: Path) -> Path:
    """``phantom``: the shipped file; the path of a file: that one; another name: an adapted one in ``folder``.

    Raises ``WeightsError`` with the names that exist.
    """
    if name == SHIPPED.stem:
        return SHIPPED
    if Path(name).suffix == SHIPPED.suffix:
        return Path(name).expanduser()
    path = folder / f"{name}{SHIPPED.suffix}"
    if not path.is_file():
        known = ", ".join([SHIPPED.stem, *sorted(found.stem for found in folder.glob(f"*{SHIPPED.suffix}"))])
        raise WeightsError(f"No weights are called {name!r}: use {known} or the path of a .safetensors file.")
    return path


def _module(trained: TrainedSSHSNet) -> nn.Module:
    """All networks as one module: the names of the tensors in the file."""
    networks: dict[str, nn.Module] = {"branches": nn.ModuleList(trained.branches)}
    return nn.ModuleDict(networks | ({} if trained.network is None else {"network": trained.network}))


def _empty(system: SSHSNet, settings: Settings) -> TrainedSSHSNet:
    """The networks of these switches, waiting for weights."""
    assert system.first is not None
    objective = stage1.build(system.first, settings, pretrained=False)
    network = None
    if system.second is not None:
        network = stage2.build(Stage2(system.second, system.first), settings).network
    return TrainedSSHSNet(settings, list(objective.branches), network)  # type: ignore[arg-type]


def _halved(tensor: torch.Tensor) -> torch.Tensor:
    """Kernels in half precision; what batch normalisation knows, a vector a layer, stays as it is."""
    return tensor.half().contiguous() if tensor.ndim > 1 else tensor.contiguous()
