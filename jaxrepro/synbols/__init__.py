"""Synbols: datasets of rendered symbols whose every attribute is known.

    sampler = attribute_sampler(scale=LogNormal(0.5, 0.1), translation=lambda rng: rng.uniform(-2, 2, 2))
    for image, mask, attributes in dataset_generator(sampler, n_samples=100): ...
    write_dataset("letters.h5", sampler, 100_000, seed=0, workers=8)

A new implementation of Lacoste et al., Synbols: Probing Learning Algorithms with Synthetic Datasets (2020), on NumPy,
pycairo, HarfBuzz (uharfbuzz) and h5py; it knows nothing of JAX. `python -m jaxrepro.synbols --help` tells of its
commands.

Where results depend on it, this generator differs from release 1.0.2 of the original as follows; compat="v1" (of
`attribute_sampler`, `dataset` and the command line) gives the original's behaviour for those marked *.

    slant *        a typographic oblique, not a vertical shear that tilts the baseline
    pixels *       R, G, B in this order; value × 255 rounded, not byte / 256 × 255 cut off
    placement *    to fractions of a pixel, with exact extents, not rounded outwards to whole pixels
    not square *   patterns and placement use the whole image, not its top left square
    fonts          read from their files, and a missing glyph is an error, not fontconfig's next best font; a letter
                   that a font lacks or draws empty is dropped from the alphabet, not the font; near-duplicates in Latin
                   letters are left out for Vietnamese, too, and by a list of our families (`fonts.duplicates`)
    hinting *      none; the original's hints change the size of letters, by a tenth of their area at 8 pixels
    bold           the family's bold face, or the outline thickened by 1/24 em; what is not bold is Medium where a
                   family has it, as in the original (normal_weight=400 of `find_fonts`: Regular)
    textures       strokes of camouflage are composed without rounding after each (at most 2 levels of 255); a gradient
                   of several may be a foreground, too; NoPattern as foreground leaves the symbol out of image and mask
    noise          of 65,536 equally likely values
    occlusions     shapes drawn as shapes, not as characters of whatever font stands in for Arial
    randomness     sample i depends on (seed, i) and the fonts only; every pattern has a seed of its own, so drawing an
                   image twice gives the same pixels, and all predefined datasets can be reproduced. Datasets with equal
                   seeds are drawn from the same numbers: pairs can be compared, independent sets need other seeds
    masks          labels are uint8, not float64; masks of different numbers of symbols are padded
    attributes     the true alphabet, all parameters of patterns, inverse_color, max_contrast and is_gray are recorded,
                   too; flags are JSON booleans, not strings *; where labels are noisy, `drawn_char` is there always
    angles         radians everywhere, ImagePattern's rotation too
    files          R, G, B; `x` not compressed, so that it can be mapped; a header; splits on scale, rotation and
                   translation are stored too; no time of writing, so that equal input gives equal bytes
"""

from jaxrepro.synbols.attributes import add_occlusion, attribute_sampler
from jaxrepro.synbols.declared_json import from_json, to_json
from jaxrepro.synbols.distributions import (
    AnyFont,
    AnySymbol,
    Choice,
    Constant,
    Function,
    Joint,
    LogNormal,
    Mixture,
    Normal,
    Uniform,
)
from jaxrepro.synbols.drawing import GENERATOR_VERSION, render
from jaxrepro.synbols.fonts import find_fonts
from jaxrepro.synbols.generate import Recipe, dataset_generator, generate_file, merge_files, write_dataset
from jaxrepro.synbols.languages import LANGUAGES, Alphabet, alphabet
from jaxrepro.synbols.masks import flatten_mask, flatten_mask_except_first
from jaxrepro.synbols.patterns import Camouflage, Gradient, ImagePattern, MultiGradient, NoPattern, SolidColor
from jaxrepro.synbols.predefined import DATASETS, Dataset, dataset
from jaxrepro.synbols.symbols import Image, Symbol, attributes_of, flatten_attributes

__all__ = [
    "DATASETS",
    "GENERATOR_VERSION",
    "LANGUAGES",
    "Alphabet",
    "AnyFont",
    "AnySymbol",
    "Camouflage",
    "Choice",
    "Constant",
    "Dataset",
    "Function",
    "Gradient",
    "Image",
    "ImagePattern",
    "Joint",
    "LogNormal",
    "Mixture",
    "MultiGradient",
    "NoPattern",
    "Normal",
    "Recipe",
    "SolidColor",
    "Symbol",
    "Uniform",
    "add_occlusion",
    "alphabet",
    "attribute_sampler",
    "attributes_of",
    "dataset",
    "dataset_generator",
    "find_fonts",
    "flatten_attributes",
    "flatten_mask",
    "flatten_mask_except_first",
    "from_json",
    "generate_file",
    "merge_files",
    "render",
    "to_json",
    "write_dataset",
]
