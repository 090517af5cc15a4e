"""The paper's prompt, and the words before its answers."""

# The Alpaca template without an input field, as in the released train.py (paper_facts.md 3.2).
PROMPT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)
MARKER = "The answer is: "
