"""Matrices alone: decompositions (krylov, gram, spectrum) and the mathematics of quantization (quantize, integers,
gptq).

A function here gets a weight and returns a weight or factors; models and their files are in model/.
"""
