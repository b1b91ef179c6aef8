"""jaxrepro: re-run vision papers in JAX.

    python launch.py --config=configs/yoto_cifar.py:smoke

The parts live in their own modules and are imported from there: `jaxrepro.layers` (FiLM, convolutions),
`jaxrepro.data`, `jaxrepro.synbols`, `jaxrepro.experiment` (the contract a paper fills in), `jaxrepro.loop`.
Importing this package imports nothing else.
"""

__version__ = "0.1.0"
