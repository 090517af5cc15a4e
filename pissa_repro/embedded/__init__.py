"""The offline default: generated word problems and the small base model pre-trained on them.

What trains and scores any other model trains and scores this one: no code of either lives here.
"""

NAME = "pissa-repro/embedded"  # of the model, in records and on pages
