"""No quantization: the base stays in float32."""

ORDER = 0


def roundtrip(weight, options, spare):
    """The weight itself."""
    return weight
