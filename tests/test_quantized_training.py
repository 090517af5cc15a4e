"""QLoRA, LoftQ and QPiSSA train on every quantizer. Files are found by scanning, none is named here."""

import pytest
from helpers import Run
from starting import alternating

from pissa_repro import quantizers


@pytest.fixture(scope="module", params=[name for name in quantizers.PLUGINS.names() if name != "none"])
def trained(request, tmp_path_factory, tiny_model, tiny_rows):
    """The quant, and of each method the record of its start and of two steps."""
    found = {}
    for method in ("lora", "loftq", "pissa"):
        options = alternating(method, request.param, 2)
        folder = tmp_path_factory.mktemp(method)
        run = Run(folder, tiny_model, tiny_rows, method, request.param, rank=16, options=options, steps=2)
        run.init()
        found[method] = run.train(), run.history()
    return request.param, found


def test_all_methods_train_on_it(trained):
    quant, found = trained
    for record, history in found.values():
        assert record["steps"] == len(history) == 2 and record["spec"]["quant"] == quant
        assert record["dtypes"]["trained"] == ["float32"]


def test_starts_that_alternate_are_nearer_to_the_model(trained):
    """Trained on the base that was measured: what is moved at the start-up shrinks with the error."""
    _, found = trained
    moved = {method: record["start_up"]["logits_difference"] for method, (record, _) in found.items()}
    assert 0 < moved["pissa"] < moved["lora"] and 0 < moved["loftq"] < moved["lora"]
