"""Measurements of initialisation and quantization error that need no training, one study a file.

Which points they measure is in plan/studies.py, how they are shown in report/.
"""
