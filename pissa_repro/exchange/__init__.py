"""Results in the formats of others: read as rows that stand beside a sweep's, and written for other people's tools.

Only numbers and how they came about pass here. Adapters and models are in adapters/, and no torch is needed.
"""
