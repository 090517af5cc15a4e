"""fp4, a 4-bit float with two exponent bits and one mantissa bit, as bitsandbytes has it; blocks of 64."""

ORDER = 3
LEVELS = tuple(value / 12 for value in (-12, -8, -6, -4, -3, -2, -0.0625, 0, 0.0625, 2, 3, 4, 6, 8, 12))
VARIANTS = {"": {"blocksize": 64, "double": False}}


def _kind(options):
    from pissa_repro.linalg.quantize import FourBit

    return FourBit("fp4", LEVELS, **options)


def roundtrip(weight, options, spare):
    """The nearest level of each value of a block."""
    return _kind(options).roundtrip(weight, spare)


def packable(linear, options):
    """Rows must be whole blocks."""
    return _kind(options).packable(linear)


def packed(linear, weight, options, dtype):
    """A layer of bitsandbytes."""
    return _kind(options).packed(linear, weight, dtype)
