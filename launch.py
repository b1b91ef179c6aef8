"""Runs an experiment from its config to a report.

    python launch.py --config=configs/yoto_cifar.py:smoke                    # embedded data, two minutes on two cores
    python launch.py --config=configs/yoto_cifar.py --config.optim.lr=3e-4   # any key of the config can be overridden
    python launch.py --config=configs/yoto_cifar.py --mode=print             # the resolved config and the parameters
    python launch.py --config=configs/yoto_cifar.py:report --sweep           # every cell of the paper's figures

Exit codes: 0 finished; 2 the input is wrong, or the machine refuses (one line says what and how to mend it); 75
interrupted after saving a checkpoint, or another process of the run was lost: the same command continues; 1 a bug, or a
loss that is no longer finite.
"""

import logging
import os
import shlex
import sys
import warnings
from pathlib import Path

from absl import flags

from jaxrepro import cluster
from jaxrepro.errors import MissingData, UserError
from jaxrepro.machine import lost_peer, machine_fault
from jaxrepro.watch import LOST, watch

FINISHED, FAILED, USER_ERROR, INTERRUPTED = 0, 1, 2, 75

FLAGS = flags.FLAGS
flags.DEFINE_string("config", None, "FILE[:PRESET], such as configs/yoto_cifar.py:smoke; presets: paper, report, smoke")
flags.DEFINE_string("workdir", None, "run folder; default runs/NAME-PRESET. The same folder continues the same run")
flags.DEFINE_enum("mode", "train", ["train", "eval", "print"], "train; evaluate the checkpoint; or print the config")
flags.DEFINE_bool("restart", False, "begin anew; the old run folder is moved aside")
flags.DEFINE_bool(
    "sweep", False, "run every point of the config's sweep(), skipping the finished; with --mode=print, list"
)
flags.DEFINE_integer(
    "sweep_index", None, "run only this point of the sweep: for array jobs of a scheduler", lower_bound=0
)
flags.DEFINE_enum(
    "distributed", "auto", ["auto", "on", "off"], "join the other processes of a job: where there are any; must; never"
)
flags.DEFINE_integer("join_timeout", 300, "seconds to wait for the other processes", lower_bound=1)
flags.DEFINE_string("coordinator_address", None, "HOST:PORT of process 0, where the cluster is not found by itself")
flags.DEFINE_integer("num_processes", None, "number of processes, with --coordinator_address", lower_bound=1)
flags.DEFINE_integer("process_id", None, "this process, with --coordinator_address", lower_bound=0)


def parse_arguments(argv: list[str]) -> list[tuple[str, str]]:
    """Parses the flags; returns the overrides as (dotted path, text) pairs.

    Raises:
      UserError: unknown flag or impossible value.
    """
    known, overrides = [argv[0]], []
    arguments = iter(argv[1:])
    for argument in arguments:
        name, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name.startswith("config."):
            value = value if equals else next(arguments, None)
            if value is None or (not equals and value.startswith("--")):
                raise UserError(f"--{name} has no value; write --{name}=VALUE")
            overrides.append((name.removeprefix("config."), value))
        else:
            known.append(argument)
    try:
        rest = FLAGS(known)[1:]
    except flags.Error as error:
        raise UserError(str(error)) from None
    if rest:
        raise UserError(f"unexpected argument {rest[0]!r}; flags begin with --, overrides with --config.")
    if not FLAGS.config:
        raise UserError("--config is missing; for example --config=configs/yoto_cifar.py:smoke (see --help)")
    return overrides


def initialize_jax() -> None:
    """Joins the cluster, where there is one, and turns on the persistent compilation cache."""
    import absl.logging
    import jax

    from jaxrepro.data.cache import data_dir

    absl.logging.set_verbosity(absl.logging.FATAL)  # orbax explains itself at length, and raises what is an error
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(data_dir() / "xla"))
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    explicit = (FLAGS.coordinator_address, FLAGS.num_processes, FLAGS.process_id)
    cluster.join(cluster.Distributed(FLAGS.distributed), *explicit, timeout=FLAGS.join_timeout)
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter where the asked-for kind of device has no driver
        asked = os.environ.get("JAX_PLATFORMS", "")
        why = " ".join(str(error).split())[:150] or "it has no driver or no device here"
        raise UserError(
            f"JAX_PLATFORMS={asked!r} cannot be used ({why}); set it to what there is, such as cpu"
        ) from None


def main(argv: list[str]) -> int:
    """Runs the command line and returns its exit code; a user's mistake becomes one line on stderr."""
    sys.excepthook, sys.unraisablehook = tell_once, tell_unraisable_once
    logging.getLogger("asyncio").addFilter(is_news)
    try:
        return launch(argv)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if peer := lost_peer(error):
            print(f"lost {other_processes()} of this run ({peer}); {LOST}", file=sys.stderr, flush=True)
            leave(INTERRUPTED)
        if not (fault := machine_fault(error)):
            raise
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)  # by orbax, when all ends
        print(f"error: {fault}", file=sys.stderr)
        return USER_ERROR


def other_processes() -> str:
    """Returns the others of a run, of which one was lost: "process 1" where there is only one."""
    import jax

    count = jax.process_count()
    return f"process {1 - jax.process_index()}" if count == 2 else f"one of the {count - 1} other processes"


def tell_once(kind, error, trace) -> None:
    """Prints errors of libraries' threads, but not those that follow from what `main` tells in one line."""
    if not follows(error):
        sys.__excepthook__(kind, error, trace)


def tell_unraisable_once(unraisable) -> None:
    """The same for errors that nothing can catch, such as those of tensorstore's callbacks."""
    if not follows(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


def is_news(record: logging.LogRecord) -> bool:
    """The same for what asyncio logs of tasks that nobody waits for any more."""
    return not (record.exc_info and follows(record.exc_info[1]))


def follows(error: BaseException | None) -> bool:
    return error is not None and bool(machine_fault(error) or str(error) == "Event loop is closed")


leave = os._exit  # at once: an orderly exit waits for the lost process, and then ends in the stack of a C++ library


def launch(argv: list[str]) -> int:
    """Does what the command line says; returns the exit code. Raises UserError for a mistake in it."""
    if {"--help", "-h", "--helpfull", "-help"} & set(argv[1:]):
        print(__doc__ + FLAGS.module_help(sys.modules[__name__]))
        return FINISHED
    overrides = parse_arguments(argv)
    if cluster.several(cluster.Distributed(FLAGS.distributed), FLAGS.num_processes):
        code = watch()
        if code is not None:
            return code
    initialize_jax()
    from jaxrepro import config_file, run
    from jaxrepro.progress import Interrupt

    path, preset = config_file.split_preset(FLAGS.config)
    root = Path(FLAGS.workdir or f"runs/{Path(path).stem}-{preset}")

    def resolve(point):
        config = config_file.load(FLAGS.config)
        for key, value in point.items():
            config_file.set_value(config, key, value)
        for key, text in overrides:
            config_file.override(config, key, text)
        return config

    points = select_points(root)
    if FLAGS.mode == run.Mode.PRINT:
        listing = [f"{i:4d}  {workdir}" for i, (_, workdir) in enumerate(points)]
        print("\n".join(listing) if FLAGS.sweep else run.describe(resolve(points[0][0])))
        return FINISHED
    if FLAGS.restart and FLAGS.mode == run.Mode.EVAL:
        raise UserError("--restart begins a run anew, so --mode=eval would find nothing; leave one of them out")
    if FLAGS.restart:
        restart(points)
    with Interrupt().listening() as interrupt:
        return run_points(points, resolve, interrupt)


def select_points(root: Path) -> list[tuple[dict, Path]]:
    """Returns (overrides, run folder) of everything to run: one, or the sweep's points."""
    from jaxrepro import config_file

    if not FLAGS.sweep and FLAGS.sweep_index is None:
        return [({}, root)]
    points = [(p, root / "sweep" / config_file.point_name(p)) for p in config_file.sweep_points(FLAGS.config)]
    if FLAGS.sweep_index is None:
        return points
    if FLAGS.sweep_index >= len(points):
        raise UserError(f"--sweep_index is {FLAGS.sweep_index}; the sweep has points 0 to {len(points) - 1}")
    return [points[FLAGS.sweep_index]]


def restart(points) -> None:
    """Moves the run folders aside, on the first process of a cluster."""
    import jax

    from jaxrepro.run import move_aside

    for _, workdir in points if jax.process_index() == 0 else ():
        if moved := move_aside(workdir):
            print(f"the old run is now {moved}", file=sys.stderr)


def run_points(points, resolve, interrupt=None) -> int:
    """Runs points one after the other; one that diverges or lacks its data does not stop the rest.

    Returns:
      The exit code.
    """
    import jax

    from jaxrepro.checkpoint import NonFiniteError
    from jaxrepro.run import Mode, run

    command = shlex.join(["python", *sys.argv])
    failed = []  # (run folder, why)
    for i, (point, workdir) in enumerate(points):
        if len(points) > 1:
            print(f"[{i + 1}/{len(points)}] {workdir}", file=sys.stderr)
        try:
            options = {"command": command, "mode": Mode(FLAGS.mode), "interrupt": interrupt}
            if not run(resolve(point), workdir, **options):
                return INTERRUPTED
        except NonFiniteError as error:
            failed.append((workdir, f"diverged: {error}"))
            kept = f"; the last good checkpoint stays in {workdir}" if has_checkpoint(workdir) else ""
            print(f"diverged: {error}{kept}", file=sys.stderr)
        except MissingData as error:
            if len(points) == 1:
                raise
            failed.append((workdir, str(error)))
            print(f"skipped: {error}", file=sys.stderr)
        jax.clear_caches()
        if interrupt and interrupt.requested and i + 1 < len(points):  # it came when this point was all but done
            print("interrupted between two points; the same command continues", file=sys.stderr)
            return INTERRUPTED
    if len(points) > 1:
        folder = points[0][1].parent
        print(f"tables:   python -m jaxrepro.report {folder}/* --out={folder.parent / 'report'}", file=sys.stderr)
    if len(points) > 1 and failed:
        print(
            f"{len(failed)} of {len(points)} points did not finish; the same command tries them again:", file=sys.stderr
        )
        for workdir, why in failed:
            print(f"  {workdir.name}: {why}", file=sys.stderr)
    return FAILED if failed else FINISHED


def has_checkpoint(workdir: Path) -> bool:
    folder = workdir / "checkpoints"
    return folder.is_dir() and any(p.name.isdigit() for p in folder.iterdir())


if __name__ == "__main__":
    sys.exit(main(sys.argv))
