"""What every stage stands on: errors for the user, records and their provenance, progress, and the GPUs of a job.

Nothing here knows a model, a method or a task.
"""
