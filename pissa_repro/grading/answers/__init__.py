"""What the answer rules of the tasks are made of: LaTeX, equivalence of formulas, programs."""
