"""The study's store as nnU-Net's dataset: its fingerprint, its plans with the paper's patches, its preprocessed cases.

The store's volumes lie on one spacing already and are z-scored. nnU-Net crops, normalises and resamples them once more
by its own rules, which change next to nothing unless a coarser spacing is pinned, and brings its predictions back.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import FileLock

from sshsnet_core.anatomy import STRUCTURES
from sshsnet_core.data.store import StoredCase
from sshsnet_core.methods.system import Job
from sshsnet_core.progress import Progress
from sshsnet_core.settings import NNUNetSettings

Configuration = Literal["2d", "3d_fullres"]

#: nnU-Net names data sets by number.
NAME = "Dataset001_Spine"
#: Settings that the trainer alone reads: trainings that differ in these share a dataset.
_OF_THE_TRAINER = {"epochs", "epochs_2d", "steps_per_epoch", "validation_steps", "adam_learning_rate", "mirror_slices"}


@contextmanager
def environment(dataset: Path, results: Path, data_workers: int = 1) -> Iterator[None]:
    """nnU-Net as it may run inside this study: its folders are ours, its remarks are not printed.

    nnU-Net asks the environment for its folders whenever it needs one; it and what it imports leave variables there and
    set matplotlib's backend. Both are put back as they were. 0 ``data_workers`` read in the training's own process.
    """
    import matplotlib
    from matplotlib import pyplot as plt

    variables = {
        "nnUNet_raw": str(dataset / "raw"),
        "nnUNet_preprocessed": str(dataset / "preprocessed"),
        "nnUNet_results": str(results),
        "nnUNet_n_proc_DA": str(data_workers),
        "nnUNet_def_n_proc": str(torch.get_num_threads()),
        # Not compiled for a GPU: a short schedule would spend much of its time on that.
        "nnUNet_compile": "0",
    }
    before = dict(os.environ)
    backend = matplotlib.get_backend()
    # A notebook's backend joins IPython when it is first loaded, and only if it is then the chosen one: load it now.
    plt.switch_backend(backend)
    os.environ.update(variables)
    try:
        yield
    finally:
        # Name by name: other threads, which score meanwhile, must never find it empty.
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
        matplotlib.use(backend)


@dataclass(frozen=True)
class Dataset:
    """nnU-Net's dataset for one configuration: where it lies, and what nnU-Net wants to be told of it."""

    folder: Path
    plans: dict[str, Any]
    description: dict[str, Any]


def description_of(cases: Sequence[StoredCase]) -> dict[str, Any]:
    """nnU-Net's dataset.json. The cases' files are named as it asks for, but never read: the store holds the arrays."""
    labels = {"background": 0, **{structure.name: structure.label for structure in STRUCTURES}}
    return {
        "channel_names": {"0": "T2"},
        "labels": labels,
        "numTraining": len(cases),
        "file_ending": ".npy",
        "overwrite_image_reader_writer": "SimpleITKIO",
        "dataset": {case.name: {"images": [f"{case.name}.npy"], "label": f"{case.name}.npy"} for case in cases},
    }


def prepare(job: Job, configuration: Configuration) -> Dataset:
    """The dataset of a job's cases, made where it is not there yet; rows, folds and seeds share it.

    Another cohort, preprocessing or pinned plan has a folder of its own. Interrupted, it goes on with the next case.
    """
    cases = sorted((*job.labelled, *job.watched), key=lambda case: case.name)
    spacing = job.settings.preprocessing.spacing_mm
    data = {name: job.identity[name] for name in ("cohort", "preprocessing")}
    made_of = [data, job.settings.nnunet.model_dump(exclude=_OF_THE_TRAINER), [case.name for case in cases]]
    key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:12]
    folder = job.shared / "nnunet" / key
    with FileLock(folder / "making.lock"), environment(folder, folder):
        plans_file = folder / "preprocessed" / NAME / "nnUNetPlans.json"
        if not plans_file.exists():
            with redirect_stdout(StringIO()):
                _plan(cases, spacing, job.settings.nnunet, folder)
        dataset = Dataset(folder, json.loads(plans_file.read_text()), description_of(cases))
        _preprocess(cases, spacing, configuration, dataset)
    return dataset


def pinned(plan: dict[str, Any], settings: NNUNetSettings, smallest_edge: int) -> dict[str, Any]:
    """A configuration of the planner's with the patch and batch size of the settings, its network made to fit them.

    How often a network pools, where, and with which kernels, follows from patch and spacing by nnU-Net's own rule.
    """
    from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props

    plane = len(plan["spacing"]) == 2
    wanted = settings.patch_2d if plane else settings.patch_3d
    most = settings.most_features_2d if plane else settings.most_features_3d
    _, strides, kernels, patch, _ = get_pool_and_conv_props(plan["spacing"], wanted, smallest_edge, 999999)
    stages = len(strides)
    network = {
        **plan["architecture"]["arch_kwargs"],
        "n_stages": stages,
        "strides": strides,
        "kernel_sizes": kernels,
        "features_per_stage": [min(most, settings.features * 2**stage) for stage in range(stages)],
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
    }
    batch = settings.batch_2d if plane else settings.batch_3d
    return {
        **plan,
        "patch_size": patch,
        "batch_size": batch or plan["batch_size"],
        "architecture": {**plan["architecture"], "arch_kwargs": network},
    }


def _plan(
    cases: Sequence[StoredCase], spacing: tuple[float, float, float], settings: NNUNetSettings, folder: Path
) -> None:
    """nnU-Net's planner at work on the store's arrays; its plans file appears last."""
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
    from nnunetv2.utilities.json_export import recursive_fix_for_json_export

    class Planner(ExperimentPlanner):
        def get_plans_for_configuration(self, *arguments: Any, **options: Any) -> dict[str, Any]:
            plan = super().get_plans_for_configuration(*arguments, **options)
            return pinned(plan, settings, self.UNet_featuremap_min_edge_length)

        def save_plans(self, plans: dict[str, Any]) -> None:
            recursive_fix_for_json_export(plans)
            partial = preprocessed / "plans.partial"
            partial.write_text(json.dumps(plans))
            os.replace(partial, preprocessed / f"{self.plans_identifier}.json")

    raw, preprocessed = folder / "raw" / NAME, folder / "preprocessed" / NAME
    raw.mkdir(parents=True, exist_ok=True)
    preprocessed.mkdir(parents=True, exist_ok=True)
    (raw / "dataset.json").write_text(json.dumps(description_of(cases)))
    intensities = [
        DatasetFingerprintExtractor.collect_foreground_intensities(np.array(case.labels)[None], case.image[None])[0][0]
        for case in cases
    ]
    values = np.concatenate(intensities)
    low, median, high = np.percentile(values, (0.5, 50, 99.5))
    statistics = {"mean": values.mean(), "median": median, "std": values.std(), "min": values.min()}
    statistics |= {"max": values.max(), "percentile_00_5": low, "percentile_99_5": high}
    fingerprint = {
        "spacings": [spacing] * len(cases),
        "shapes_after_crop": [case.image.shape for case in cases],
        "foreground_intensity_properties_per_channel": {"0": {name: float(v) for name, v in statistics.items()}},
        "median_relative_size_after_cropping": 1.0,
    }
    (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    wanted = settings.spacing_mm and [float(length) for length in settings.spacing_mm]
    planner = Planner(NAME, suppress_transpose=True, overwrite_target_spacing=wanted)
    # The paper has no low-resolution network, and a narrow patch of a small profile must not call for one.
    planner.lowres_creation_threshold = 0
    planner.plan_experiment()


def _preprocess(
    cases: Sequence[StoredCase], spacing: tuple[float, float, float], configuration: Configuration, dataset: Dataset
) -> None:
    """nnU-Net's own preprocessing of the cases that are not there yet; a case's .pkl appears last."""
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(dataset.plans)
    of_configuration = manager.get_configuration(configuration)
    folder = dataset.folder / "preprocessed" / NAME / of_configuration.data_identifier
    partial = folder.with_name(folder.name + ".partial")
    # What an interrupted run left half written would stop the next: nnU-Net's writer does not write over files.
    shutil.rmtree(partial, ignore_errors=True)
    for path in (folder, partial):
        path.mkdir(parents=True, exist_ok=True)
    missing = [case for case in cases if not (folder / f"{case.name}.pkl").exists()]
    with Progress(
        f"nnU-Net's dataset, {configuration}", len(cases), "case", done=len(cases) - len(missing)
    ) as progress:
        for case in missing:
            image, labels = np.array(case.image)[None], np.array(case.labels, np.int16)[None]
            data, seg, properties = DefaultPreprocessor(verbose=False).run_case_npy(
                image, labels, {"spacing": spacing}, manager, of_configuration, dataset.description
            )
            seg = seg.astype(np.int16)
            patch = tuple(of_configuration.patch_size)
            blocks, chunks = comp_blosc2_params(data.shape, patch, data.itemsize)
            blocks_seg, chunks_seg = comp_blosc2_params(seg.shape, patch, seg.itemsize)
            sizes = {"blocks": blocks, "chunks": chunks, "blocks_seg": blocks_seg, "chunks_seg": chunks_seg}
            nnUNetDatasetBlosc2.save_case(data, seg, properties, str(partial / case.name), **sizes)
            for name in (f"{case.name}.b2nd", f"{case.name}_seg.b2nd", f"{case.name}.pkl"):
                os.replace(partial / name, folder / name)
            progress.advance(case.name)
