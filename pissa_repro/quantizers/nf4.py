"""nf4, the 4-bit NormalFloat of QLoRA (arXiv 2305.14314, appendix E).

Block size 64 is the library's default and the paper's; initialisation and error measurement go without double
quantization (-dq), as in the released code (docs/paper_facts.md 3.3).
"""

from pissa_repro.quantizers._four_bit import functions

ORDER = 1
LEVELS = (  # the float32 values of bitsandbytes
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip
VARIANTS = {
    "": {"blocksize": 64, "double": False},
    "-dq": {"blocksize": 64, "double": True},
    "-b32": {"blocksize": 32, "double": False},
    "-b32-dq": {"blocksize": 32, "double": True},
    "-b128": {"blocksize": 128, "double": False},
    "-b128-dq": {"blocksize": 128, "double": True},
}
LOOKS = {"": 1, "-dq": 4, "-b32": 5, "-b32-dq": 6, "-b128": 7, "-b128-dq": 8}
roundtrip, packable, packed, bitsandbytes = functions("nf4", LEVELS)
