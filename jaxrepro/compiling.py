"""Compiler options for programs that take longer to compile than to run."""

import os

# For what is computed once or twice a run, such as draws of initial values or pictures.
QUICK_COMPILE = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}


def options_for_steps(quick: bool) -> dict[str, int | bool]:
    """Returns those of training: with `quick`, fewer optimisations, unless XLA_FLAGS say how many already.

    Measured on two cores, a step of the smoke preset of HVAE ResNet: 10.5 instead of 20.6 s to compile, 44 instead of
    30 ms to run.
    """
    level = "xla_backend_optimization_level"
    return {level: 1, "xla_cpu_use_fusion_emitters": False} if quick and level not in _flags() else {}


def _flags() -> str:
    return os.environ.get("XLA_FLAGS", "")
