"""Where models and rows come from: a hub, a folder or the embedded default, and the prompt around a row.

Tokens and examples are in training/.
"""
