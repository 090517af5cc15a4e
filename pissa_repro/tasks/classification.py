"""Classes of texts: what is read, accuracy, F1 and Matthews' correlation. Used by classification.yaml."""

from pissa_repro.model.classes import in_order

__all__ = ["f1", "mcc", "process_results", "words"]

Pair = tuple[str, str]  # the label of a row, and the class that was answered


def words(doc: dict[str, str]) -> str:
    """The text, and below it the second one where there are two; the model gets them as its tokenizer joins them."""
    return "\n".join(doc[role] for role in ("text", "text_pair") if role in doc)


def process_results(doc: dict[str, str], results: list[str]) -> dict[str, float | Pair]:
    """Of one row: 1.0 for the right class, else 0.0; for the other metrics the label and the answer."""
    pair = (doc["label"], results[0])
    return {"paper": float(pair[0] == pair[1]), "f1": pair, "mcc": pair}


def f1(pairs: list[Pair]) -> float:
    """F1 by lm-eval's function: of the second class where there are two (GLUE's "1"), else the mean over classes."""
    from lm_eval.api.metrics import f1_score

    names = in_order({name for pair in pairs for name in pair})
    asked = names[1:] if len(names) == 2 else names
    return sum(
        float(f1_score([(int(label == name), int(answer == name)) for label, answer in pairs])) for name in asked
    ) / len(asked)


def mcc(pairs: list[Pair]) -> float:
    """Matthews' correlation by lm-eval's function, which is CoLA's metric; 0 where every answer is the same."""
    from lm_eval.api.metrics import matthews_corrcoef

    return float(matthews_corrcoef(pairs))
