"""Rendered letters after Synbols (Lacoste et al., 2020), with known attributes.

    arrays = render_dataset("default", num_samples=1000, seed=0, resolution=32)
    arrays["image"], arrays["label"], arrays["rotation"]

Needs pycairo, fontTools and some packages fontpkg-*; knows nothing of JAX.
"""

from jaxrepro.synbols.generate import DATASETS, GENERATOR_VERSION, render_dataset

__all__ = ["DATASETS", "GENERATOR_VERSION", "render_dataset"]
