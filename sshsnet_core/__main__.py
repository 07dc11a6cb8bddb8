"""The command line: a thin layer over ``study``. ``python -m sshsnet_core --help`` lists the commands."""

import argparse
import subprocess
import sys
from pathlib import Path

from sshsnet_core.errors import StudyError
from sshsnet_core.settings import PROFILES, SettingsError, load_settings

#: What `study` runs besides a single row.
GRIDS = {
    "all": "Tables 1 and 2",
    "table1": "Table 1 alone",
    "cps": "CPS at equal steps and at equal time",
    "labels": "CPS where labels are few",
    "released": "the baselines as their authors released them",
    "switches": "our own switches, each turned alone",
}
#: Those that compare on fold 0, each with a page of its own.
COMPARISONS = ("cps", "labels", "released", "switches")


def _phantom(arguments: argparse.Namespace) -> None:
    from sshsnet_core.data.cohorts.phantom import write_phantom_cohort

    write_phantom_cohort(arguments.output, load_settings(arguments.profile).cohort, workers=arguments.workers)
    print(f"Wrote the phantom cohort to {arguments.output}.")


def _study(arguments: argparse.Namespace) -> None:
    from sshsnet_core.evaluation.tables import table_text
    from sshsnet_core.gpus import at_a_time
    from sshsnet_core.methods.rows import TITLES, method_by_key
    from sshsnet_core.study import REPOSITORY, Study

    study = Study.open(arguments.profile, arguments.effort)
    if not 1 <= arguments.folds <= study.settings.cohort.folds:
        raise SettingsError(f"FOLDS must be 1 to {study.settings.cohort.folds}, not {arguments.folds}.")
    if arguments.target in COMPARISONS and arguments.folds != 1:
        raise SettingsError(f"{arguments.target} is compared on fold 0 alone: leave FOLDS at 1.")
    targets = [arguments.target]
    if arguments.target not in GRIDS:
        # Its test images, and so its trainings on all of the folds.
        targets = [f"{method_by_key(arguments.target).key}_test".replace("-", "_")]
    # Snakemake and the notebooks run in folders of their own.
    profile = arguments.profile if arguments.profile in PROFILES else str(_path(arguments.profile).resolve())
    config = [f"{name}={getattr(arguments, name):g}" for name in ("folds", "effort")]
    command = [sys.executable, "-m", "snakemake", "-s", str(REPOSITORY / "notebooks" / "Snakefile"), *targets]
    command += ["--cores", "all", "--scheduler", "greedy", "--quiet", "rules", "--rerun-incomplete", "--nolock"]
    # A row that fails leaves the others to be trained; what stands on it is left out.
    command += ["--keep-going", "--rerun-triggers", "input", "params", "--directory", str(REPOSITORY)]
    command += ["--resources", f"gpu={at_a_time()}", "--config", f"profile={profile}", *config]
    subprocess.run(command, check=True)
    if arguments.target in COMPARISONS:
        print(f"\n{(study.figures / f'{arguments.target}.md').read_text(encoding='utf-8')}\n")
    else:
        numbers = (1,) if arguments.target == "table1" else (1, 2)
        texts = {number: table_text(number, TITLES[number], study.results()) for number in numbers}
        print(*(f"\nTable {number}\n\n{text}" for number, text in texts.items()), sep="\n")
    print(f"\nTables and pictures: {study.figures}\nExecuted notebooks: {study.work / 'executed'}")


def _test_images(arguments: argparse.Namespace) -> None:
    from sshsnet_core.methods.rows import method_by_key
    from sshsnet_core.scoring import score_test
    from sshsnet_core.study import Study

    study = Study.open(arguments.profile, arguments.effort, arguments.seed)
    row = method_by_key(arguments.method)
    if not study.cohort.unlabelled:
        print("The cohort has no test images.")
        return
    score_test(study, row.key, range(arguments.folds))
    print(f"Label maps: {study.work / 'predictions' / row.key / 'test'}")


def _predict(arguments: argparse.Namespace) -> None:
    from sshsnet_core.data.volumes import VolumeError
    from sshsnet_core.model import Model
    from sshsnet_core.scan import check_names, segment_scan
    from sshsnet_core.study import Study

    check_names(arguments.images)
    profile, effort, folds = arguments.profile, arguments.effort, arguments.folds
    if arguments.method:
        study = Study.open(profile or "mini", 1.0 if effort is None else effort)
        model = Model.of_row(study, arguments.method, folds or [0])
    elif profile or effort is not None or folds:
        raise SettingsError("--profile, --effort and --folds choose among the study's own networks: add --method.")
    else:
        model = Model.of_weights(arguments.weights)
    failed = []
    for image in arguments.images:
        try:
            result = segment_scan(model, image, arguments.output, arguments.naming, arguments.bodies)
        except (StudyError, OSError) as error:
            if len(arguments.images) == 1:
                raise
            print(f"Error: {error}", file=sys.stderr)
            failed.append(image.name)
            continue
        print(*(f"Warning: {warning}" for warning in result.warnings), result.summary, sep="\n")
    if failed:
        raise VolumeError(f"{len(failed)} of {len(arguments.images)} scans were not segmented: {', '.join(failed)}.")


def _weights(arguments: argparse.Namespace) -> None:
    from sshsnet_core.methods.weights import SHIPPED
    from sshsnet_core.transfer import phantom_weights

    weights = phantom_weights(arguments.seed)
    weights.write(arguments.output or SHIPPED)
    print(f"Wrote {weights.title} to {arguments.output or SHIPPED}.")


def _adapt(arguments: argparse.Namespace) -> None:
    from sshsnet_core.data.cohorts.folder import read_folder
    from sshsnet_core.methods.weights import SHIPPED, Weights, find_weights
    from sshsnet_core.model import weights_folder
    from sshsnet_core.transfer import adapted_weights

    if arguments.name == SHIPPED.stem:
        raise SettingsError(f"{arguments.name} is the name of the networks that come with the package: choose another.")
    target = weights_folder() / f"{arguments.name}.safetensors"
    weights = Weights.read(find_weights(arguments.weights, weights_folder()))
    adapted_weights(weights, read_folder(arguments.folder), arguments.name, arguments.seed).write(target)
    print(f"Wrote {target.name}. Use it: python -m sshsnet_core predict SCAN -o FOLDER --weights {arguments.name}")


def _real(arguments: argparse.Namespace) -> None:
    from sshsnet_core.measurement import write_measured

    print(write_measured(arguments.profile, arguments.data, arguments.seeds).read_text(encoding="utf-8"))


def _path(text: str) -> Path:
    """For argparse: not every shell expands the ~ of ``make adapt FOLDER=~/scans``."""
    return Path(text).expanduser()


def _count(text: str) -> int:
    """1 or more, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sshsnet_core", description="SSHSNet as a study to step through.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    phantom = commands.add_parser("phantom", help="write a phantom cohort in MRSpineSeg's file layout")
    phantom.add_argument("-o", "--output", type=_path, required=True, help="the folder to write to")
    phantom.add_argument("--workers", type=_count, default=1, help="cases made at once (default 1)")
    phantom.set_defaults(run=_phantom)

    study = commands.add_parser("study", help="run the grid of Tables 1 and 2 (what `make study` calls)")
    grids = "; ".join(f"{name}: {what}" for name, what in GRIDS.items())
    study.add_argument("target", nargs="?", default="all", help=f"{grids}; or one row, such as cotr (default all)")
    study.add_argument("--folds", type=int, default=1, help="how many of the folds to run (default 1)")
    study.set_defaults(run=_study)

    images = "segment and score the test images with a row that the study has trained"
    test_images = commands.add_parser("test-images", help=images)
    test_images.add_argument("method", metavar="ROW", help="the row, e.g. cotr (`make study ROW=cotr` ends with it)")
    test_images.add_argument("--folds", type=_count, default=1, help="how many folds' networks vote (default 1)")
    test_images.set_defaults(run=_test_images)

    predict = commands.add_parser("predict", help="segment volumes with the networks that come with the package")
    predict.add_argument("images", type=_path, nargs="+", metavar="SCAN", help="a NIfTI or MetaImage volume")
    predict.add_argument("-o", "--output", type=_path, required=True, help="the folder for label map, picture and JSON")
    networks = predict.add_mutually_exclusive_group()
    weights = "phantom (default, shipped), the name of adapted ones, or the path of a .safetensors file"
    networks.add_argument("--weights", default="phantom", help=weights)
    networks.add_argument("--method", help="instead: a row of Tables 1 and 2 that the study has trained, e.g. sshsnet")
    folds = "with --method: the folds whose networks are used, together where there are several (default 0)"
    predict.add_argument("--folds", type=int, nargs="+", help=folds)
    predict.add_argument("--profile", help="with --method: the study's profile (default mini)")
    predict.add_argument("--effort", type=float, help="with --method: the study's effort (default 1)")
    naming = "name levels from the whole column, or leave the networks' own names (--method's default)"
    predict.add_argument("--naming", action=argparse.BooleanOptionalAction, help=naming)
    predict.add_argument("--bodies", action="store_true", help="vertebral bodies alone, without posterior elements")
    predict.set_defaults(run=_predict)

    weights_command = commands.add_parser("weights", help="train the networks of the package anew, on phantoms alone")
    weights_command.add_argument("-o", "--output", type=_path, help="the file to write (default: the package's own)")
    weights_command.set_defaults(run=_weights)

    adapt = commands.add_parser("adapt", help="train networks on, with a folder of unlabelled scans under CPS")
    adapt.add_argument("folder", type=_path, help="a folder of sagittal NIfTI or MetaImage volumes")
    adapt.add_argument("--name", default="adapted", help="what predict will call the result (default adapted)")
    adapt.add_argument("--weights", default="phantom", help="the weights to start from (default phantom)")
    adapt.set_defaults(run=_adapt)

    real = commands.add_parser("real", help="measure before and after the adaptation, where somebody has annotated")
    real.add_argument("data", type=_path, help="a folder with vertebrae_labelled/, vertebrae_images_only/ and the like")
    real.add_argument("--seeds", type=_count, default=3, help="trainings to average over (default 3)")
    real.add_argument("--profile", default="real", help="whose networks (default real)")
    real.set_defaults(run=_real)

    for command in (test_images, weights_command, adapt):
        command.add_argument("--seed", type=int, default=0, help="of the training (default 0)")
    for command in (phantom, study, test_images):
        command.add_argument("--profile", default="mini", help=f"{', '.join(PROFILES)} or a YAML file (default mini)")
    for command in (study, test_images):
        command.add_argument("--effort", type=float, default=1.0, help="multiplies every step count (default 1)")
    return parser


def main() -> int:
    """Run a command; what the user can mend is told in one sentence, with a non-zero exit."""
    arguments = _parser().parse_args()
    try:
        arguments.run(arguments)
    except (StudyError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print("Error: some jobs failed; the lines above say which. The same command tries them again.", file=sys.stderr)
        return error.returncode
    except KeyboardInterrupt:
        print("Interrupted; the same command goes on from the last checkpoint.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
