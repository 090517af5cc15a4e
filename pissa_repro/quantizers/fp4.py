"""fp4, a 4-bit float with two exponent bits and one mantissa bit, as bitsandbytes has it; blocks of 64."""

from pissa_repro.quantizers._four_bit import functions

ORDER = 3
LOOKS = {"": 3}
LEVELS = tuple(value / 12 for value in (-12, -8, -6, -4, -3, -2, -0.0625, 0, 0.0625, 2, 3, 4, 6, 8, 12))
VARIANTS = {"": {"blocksize": 64, "double": False}}
roundtrip, packable, packed, bitsandbytes = functions("fp4", LEVELS)
