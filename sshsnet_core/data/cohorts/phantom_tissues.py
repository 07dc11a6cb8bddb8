"""The tissues of a phantom, kept apart from what they look like."""

from enum import IntEnum


class Tissue(IntEnum):
    """What a point of the body is made of; ``phantom_appearance`` says how bright that is."""

    AIR = 0
    SKIN = 1
    SUBCUTANEOUS_FAT = 2
    ABDOMEN = 3
    LIVER = 4
    VISCERAL_FAT = 5
    VESSEL = 6
    MUSCLE = 7
    PSOAS = 8
    INTERSPINOUS = 9
    LIGAMENT = 10
    FAT = 11
    NERVE = 12
    CSF = 13
    CORD = 14
    CAUDA = 15
    MARROW = 16
    CORTEX = 17
    BASIVERTEBRAL_VEIN = 18
    ARCH_MARROW = 19
    ANNULUS = 20
    INNER_ANNULUS = 21
    NUCLEUS = 22
    REMNANT_DISC = 23
    FORAMEN = 24
    # Only in randomised phantoms.
    GAS = 25
    BOWEL = 26
    FLUID = 27
    HAEMANGIOMA = 28
    ENDPLATE_CHANGE = 29
    METAL = 30
