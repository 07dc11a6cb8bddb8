"""The command line: a thin layer over ``study``. ``python -m sshsnet_core --help`` lists the commands."""

import argparse
import subprocess
import sys
from pathlib import Path

from sshsnet_core.errors import StudyError
from sshsnet_core.settings import SettingsError, load_settings

#: What `study` runs besides a single row.
GRIDS = {
    "all": "Tables 1 and 2",
    "cps": "CPS at equal steps and at equal time",
    "released": "the baselines as their authors released them",
    "switches": "our own switches, each turned alone",
}


def _phantom(arguments: argparse.Namespace) -> None:
    from sshsnet_core.data.cohorts.phantom import write_phantom_cohort

    write_phantom_cohort(arguments.output, load_settings(arguments.profile).cohort, workers=arguments.workers)
    print(f"Wrote the phantom cohort to {arguments.output}.")


def _study(arguments: argparse.Namespace) -> None:
    from sshsnet_core.evaluation.tables import table_text
    from sshsnet_core.methods.rows import method_by_key
    from sshsnet_core.study import REPOSITORY, Study

    study = Study.open(arguments.profile, arguments.effort)
    if not 1 <= arguments.folds <= study.settings.cohort.folds:
        raise SettingsError(f"FOLDS must be 1 to {study.settings.cohort.folds}, not {arguments.folds}.")
    targets = [arguments.target]
    if arguments.target not in GRIDS:
        row = method_by_key(arguments.target)
        targets = [f"{row.key}_fold{fold}_seed{study.seed}".replace("-", "_") for fold in range(arguments.folds)]
    config = [f"{name}={getattr(arguments, name):g}" for name in ("folds", "effort")]
    command = [sys.executable, "-m", "snakemake", "-s", str(REPOSITORY / "notebooks" / "Snakefile"), *targets]
    command += ["--cores", "all", "--scheduler", "greedy", "--quiet", "rules", "--rerun-incomplete", "--nolock"]
    command += ["--rerun-triggers", "input", "--directory", str(REPOSITORY)]
    command += ["--config", f"profile={arguments.profile}", *config]
    subprocess.run(command, check=True)
    if arguments.target in ("cps", "released", "switches"):
        print(f"\n{(study.figures / f'{arguments.target}.md').read_text(encoding='utf-8')}\n")
    else:
        print(*(f"\nTable {number}\n\n{table_text(number, study.results())}" for number in (1, 2)), sep="\n")
    print(f"\nTables and pictures: {study.figures}\nExecuted notebooks: {study.work / 'executed'}")


def _predict(arguments: argparse.Namespace) -> None:
    from sshsnet_core.scan import segment_scan
    from sshsnet_core.study import Study

    study = Study.open(arguments.profile, arguments.effort)
    result = segment_scan(study, arguments.image, arguments.output, arguments.method, arguments.folds)
    print(*(f"Warning: {warning}" for warning in result.warnings), sep="\n", end="\n" if result.warnings else "")
    print(f"Found: {', '.join(structure.name for structure in result.structures) or 'nothing'}.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sshsnet_core", description="SSHSNet as a study to step through.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    phantom = commands.add_parser("phantom", help="write a phantom cohort in MRSpineSeg's file layout")
    phantom.add_argument("-o", "--output", type=Path, required=True, help="the folder to write to")
    phantom.add_argument("--workers", type=int, default=1, help="cases made at once (default 1)")
    phantom.set_defaults(run=_phantom)

    study = commands.add_parser("study", help="run the grid of Tables 1 and 2 (what `make study` calls)")
    grids = "; ".join(f"{name}: {what}" for name, what in GRIDS.items())
    study.add_argument("target", nargs="?", default="all", help=f"{grids}; or one row, such as cotr (default all)")
    study.add_argument("--folds", type=int, default=1, help="how many of the folds to run (default 1)")
    study.set_defaults(run=_study)

    predict = commands.add_parser("predict", help="segment a volume with the study's trained networks")
    predict.add_argument("image", type=Path, help="a NIfTI or MetaImage volume")
    predict.add_argument("-o", "--output", type=Path, required=True, help="the folder for label map, picture and JSON")
    predict.add_argument("--method", default="sshsnet", help="the row of Table 1 or 2 (default sshsnet)")
    folds = "the folds whose networks are used, together where there are several (default 0)"
    predict.add_argument("--folds", type=int, nargs="+", default=[0], help=folds)
    predict.set_defaults(run=_predict)

    for command in (phantom, study, predict):
        command.add_argument("--profile", default="mini", help="smoke, mini, gpu, paper or a YAML file (default mini)")
    for command in (study, predict):
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
        print(
            "Error: the study stopped; the lines above say where. The same command goes on from there.", file=sys.stderr
        )
        return error.returncode
    except KeyboardInterrupt:
        print("Interrupted; the same command goes on from the last finished epoch.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
