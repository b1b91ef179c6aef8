"""Compiler options for programs that take longer to compile than to run."""

import os

import jax

_LEVEL = "xla_backend_optimization_level"
# The short way to emit code on CPU. JAX 0.11 no longer has it and refuses the option by name.
SHORT_CODE = {"xla_cpu_use_fusion_emitters": False} if jax.__version_info__ < (0, 11) else {}

# For what is computed once or twice a run, such as draws of initial values or pictures.
QUICK_COMPILE = {_LEVEL: 0, "xla_llvm_disable_expensive_passes": True} | SHORT_CODE


def options_for_steps(quick: bool) -> dict[str, int | bool]:
    """Returns those of training: with `quick`, fewer optimisations, unless XLA_FLAGS say how many already.

    JAX_LOG_COMPILES=1 python launch.py --config=configs/synbols_unsupervised.py:smoke --config.parallel.quick_compile=…
    shows what either takes to compile, and its steps a second.
    """
    stated = _LEVEL in os.environ.get("XLA_FLAGS", "")
    return {_LEVEL: 1} | SHORT_CODE if quick and not stated else {}
