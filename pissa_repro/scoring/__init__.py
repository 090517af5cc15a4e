"""Answers of trained cells: engines that generate, what is kept of it, lm-eval's two halves, and the scores.

Answer rules are in tasks/; what is made of many scores is in results/.
"""
