"""Families whose Latin letters look like those of another family, and which alphabets therefore leave out.

A dataset whose label is the font needs fonts that can be told apart, so the paper leaves out near-duplicates, as its
released list does: 100 merges by Ward's method of 1,285 fonts. The table is the same share of the 200 families that
fontpkg packages, 16 merges, by distances between pictures of their letters:

    python -m jaxrepro.synbols similar --num_merges=16 --out=similar.txt       # with the extra `fonts`

Eight of them have the very letters of another family (Regular, less than 0.002 apart in the root mean square of pixels
from 0 to 1): families of other scripts that come with the same Latin letters. The last pair joined is 0.07 apart.
"""

from collections.abc import Sequence

from jaxrepro.synbols.fonts.faces import Font

# Left out -> the family of which it is a near-duplicate, and which has more characters.
NEAR_DUPLICATES = {
    "Cormorant": "Cormorant Garamond",
    "DM Serif Text": "DM Serif Display",
    "Heebo": "Roboto",
    "Hind Siliguri": "Hind",
    "IBM Plex Sans": "IBM Plex Sans Arabic",
    "Inter Tight": "Inter",
    "Lexend Deca": "Lexend",
    "Noto Kufi Arabic": "Noto Sans",
    "Noto Sans Arabic": "Noto Sans",
    "Noto Sans Devanagari": "Noto Sans",
    "Noto Sans Khmer": "Noto Sans",
    "Noto Sans Tamil": "Noto Sans",
    "Noto Sans Telugu": "Noto Sans",
    "Noto Sans Thai": "Noto Sans",
    "Nunito": "Nunito Sans",
    "Titillium Web": "Cairo",
}


def distinct(fonts: Sequence[Font]) -> tuple[Font, ...]:
    """Returns the fonts less the near-duplicates of one that is there, in the same order."""
    names = {font.name for font in fonts}
    return tuple(font for font in fonts if NEAR_DUPLICATES.get(font.name) not in names)
