"""Hooks of a method that do what they may not: one message that names the method's file, and nothing is written."""

import pytest
import torch
from helpers import Run
from plugged import OLORA, thrown
from stage import says

from pissa_repro import methods
from pissa_repro.training import cell, trainer

CLASS = "\n\nclass Bad(Training):\n    def {}:\n        {}\n\n\nTRAINING = Bad\n"


def hook(name, body):
    """The text of a method with this one hook."""
    taken = {
        "penalty": "modules",
        "state": "",
        "rates": "",
        "optimizer": "modules, groups, adam",
        "__init__": "options",
    }
    arguments = taken.get(name, "modules, step, steps")
    return CLASS.format(f"{name}(self{', ' * bool(arguments)}{arguments})", body)


ANY = "next(iter(modules.values()))"
BAD = {
    "a penalty that is no scalar": (hook("penalty", f"return {ANY}.A.sum(0)"), ["step 1", "penalty()", "(64,)"]),
    "a penalty that is no number": (hook("penalty", f"return {ANY}.A.sum() / 0 * 0"), ["step 1", "penalty()", "nan"]),
    "a penalty that is no tensor": (hook("penalty", "return 0.5"), ["step 1", "penalty()", "0.5", "scalar"]),
    "a penalty of nothing": (hook("penalty", f"return {ANY}.A.detach().sum()"), ["step 1", "no part that trains"]),
    "a gradient that is no number": (hook("adjust", f"{ANY}.B.grad[0] = float('nan')"), ["step 1", "nan", "adjust()"]),
    "a part that is no number": (
        hook("settle", f"if step == steps: {ANY}.B[0] = float('nan')"), ["no finite number after the last step"]
    ),
    "a state that is a number": (hook("state", "return {'mean': 0.5}"), ["state()", "'mean': 0.5", "tensors by name"]),
    "a state that is a list": (hook("state", "return []"), ["state()", "[]", "tensors by name"]),
    "a rate of no part": (hook("rates", "return {'C': 2.0}"), ["rates()", "'C'", "'core'"]),
    "a rate that is no number": (hook("rates", "return {'B': '2'}"), ["rates()", "'B': '2'", "above 0"]),
    "an optimizer that is none": (hook("optimizer", "return groups"), ["optimizer()", "torch.optim.Optimizer"]),
    "rates that are a list": (hook("rates", "return ['B']"), ["rates()", "['B']", "by part"]),
    "a complex penalty": (hook("penalty", f"return {ANY}.A.sum() * 1j"), ["step 1", "penalty()", "scalar"]),
    "options that are not there": (hook("__init__", "options['width']"), ["made of its options", "KeyError('width')"]),
    "an optimizer that needs a closure": (
        hook("optimizer", "import torch; return torch.optim.LBFGS([p for group in groups for p in group['params']])"),
        ["optimizer()", "LBFGS", "loss again"],
    ),
    "an optimizer of other parts": (
        hook("optimizer", "import torch; return torch.optim.SGD(groups[0]['params'][1:], lr=0.1)"),
        ["optimizer()", "other parameters"],
    ),
}  # fmt: skip


@pytest.fixture
def make(monkeypatch, tmp_path, tiny_model, tiny_rows):
    """A function that makes the start of a cell of three steps, whose method adds this to the training."""

    def made(text, quant="none"):
        run = Run(tmp_path / "run", tiny_model, tiny_rows, thrown(monkeypatch, tmp_path, text), quant, steps=3)
        run.init()
        return run

    return made


@pytest.mark.parametrize(("text", "words"), BAD.values(), ids=BAD)
def test_a_bad_hook_stops_the_training(make, text, words):
    run = make(text)
    says(run.train, f"pissa_repro/methods/{run.spec['method']}.py: TRAINING: ", *words)
    assert not run.trained.exists() and not run.record.exists()


def build(run, freeze=""):
    """The trainer of a cell; parameters with this in their name are frozen."""
    prepared = run.prepare()
    for name, parameter in prepared.model.named_parameters():
        parameter.requires_grad &= not freeze or freeze not in name
    scratch = trainer.Scratch(run.scratch, {"spec": run.spec})
    return trainer.build(prepared, run.spec, scratch, cell.Share(4, 1), 2)


MOVES_A = hook("settle", f"if step == 2: {ANY}.A.mul_(2)")
REACHES = hook("settle", "_BASE[0].data.view(-1)[0] += 1") + "_BASE = []\n"


def test_a_frozen_part_that_moved_is_found(make, tmp_path):
    """Also where it moved before a kill: what the training began with is what counts."""
    run = make(MOVES_A)
    build(run).train()  # A trains, so it may move
    frozen = build(run, "lora_A")
    assert not frozen.model.base_model.model.model.layers[0].mlp.up_proj.lora_A.default.weight.requires_grad
    says(frozen.train, "changed what is frozen", "lora_A", "(1 in all)")
    kept = str(run.scratch / "checkpoint-2")
    says(lambda: build(run, "lora_A").train(resume_from_checkpoint=kept), "changed what is frozen", "lora_A")


@pytest.mark.parametrize("quant", ["none", "nf4"])
def test_a_base_that_moved_is_found(make, quant):
    """Of a packed weight one code counts."""
    run = make(REACHES, quant)
    made = build(run)
    weight = made.model.base_model.model.model.layers[1].mlp.up_proj.base_layer.weight
    assert (weight.dtype == torch.uint8) == (quant == "nf4")
    methods.load(run.spec["method"])._BASE.append(weight)
    says(made.train, "changed what is frozen", "layers.1.mlp.up_proj.base_layer.weight", "(1 in all)")


GOOD = hook("rates", "return {}")
UNREAD = OLORA + "\nTRAINING_OPTIONS = {'x': 1.0}\n"
FILES = {
    "a misspelt hook": (OLORA + hook("adjustt", "pass"), ["unknown name 'adjustt'", "Did you mean 'adjust'?"]),
    "another signature": (OLORA + hook("rates", "pass").replace("(self)", "(self, step)"), ["'rates' takes (step)"]),
    "a class of its own": (OLORA + GOOD.replace("(Training)", ""), ["'TRAINING' is", "subclass of methods.Training"]),
    "an object": (OLORA + GOOD.replace("= Bad", "= Bad({})"), ["'TRAINING' is", "type"]),
    "options without hooks": (UNREAD, ["TRAINING_OPTIONS", "no TRAINING that reads them"]),
    "hooks without factors": (
        OLORA.partition("start =")[0].replace(", TAKES = olora.RANDOM, olora.TAKES", " = True")
        + "FACTORS = False\n"
        + GOOD,
        ["FACTORS = False"],
    ),
    "hooks that nothing names": (OLORA + GOOD.partition("\n\n\nTRAINING")[0], ["class Bad", "`TRAINING = Bad`"]),
    "hooks of the contract's name": (
        "from pissa_repro import methods\n".join(
            OLORA.split("from pissa_repro.methods import Training, olora\n")
        ).replace("olora", "methods.olora")
        + GOOD.replace("Bad(Training)", "Training(methods.Training)").partition("\n\n\nTRAINING")[0],
        ["class Training", "`TRAINING = Training`"],
    ),
    "hooks beside others": (
        OLORA + GOOD + GOOD.replace("Bad(", "Other(").partition("\n\n\nTRAINING")[0],
        ["class Other", "__all__"],
    ),
    "a misspelt function of another": (OLORA + "entriez = olora.start\n", ["'entriez'", "Did you mean 'entries'?"]),
    "a whole number below 1": (OLORA + "OPTIONS = {'k': 0}\n", ["option 'k' is 0", "from 1 to 1,000"]),
    "a number below 0": (OLORA + "OPTIONS = {'k': -1.0}\n", ["option 'k' is -1.0", "a number from 0"]),
    "no solver": (OLORA + "OPTIONS = {'svd': 'slow'}\n", ["unknown svd 'slow'", "exact, fast"]),
    "defaults that it refuses": (
        UNREAD + GOOD + "\n\ndef refuse_options(options):\n    return 'x is above 2' if options['x'] < 2 else None\n",
        ["the file's own defaults", "'x': 1.0", "x is above 2"],
    ),
    "an option twice": (UNREAD + GOOD + "OPTIONS = {'x': 2}\n", ["option 'x' is there twice"]),
    "a word without choices": (UNREAD.replace("1.0", "'a'") + GOOD, ["option 'x' is 'a'", "CHOICES['x']"]),
    "a default of no kind": (UNREAD.replace("1.0", "None") + GOOD, ["option 'x' is None", "a word of CHOICES"]),
    "choices of nothing": (OLORA + "CHOICES = {'y': ('a', 'b')}\n", ["'y', which is no option"]),
}


@pytest.mark.parametrize(("text", "words"), FILES.values(), ids=FILES)
def test_a_file_that_is_not_whole_is_refused(monkeypatch, tmp_path, text, words):
    name = thrown(monkeypatch, tmp_path, text, head="")
    says(lambda: methods.load(name), f"pissa_repro/methods/{name}.py", *words)


def test_hooks_that_another_file_takes_may_stand_beside(monkeypatch, tmp_path):
    """As what TRAINING extends, or by `__all__`."""
    parent = GOOD.replace("Bad(Training)", "Parent(Training)").partition("\n\n\nTRAINING")[0]
    lent = parent.replace("Parent", "Lent") + "\n\n__all__ = ['Lent']\n"
    text = parent + lent + GOOD.replace("(Training)", "(Parent)")
    assert methods.load(thrown(monkeypatch, tmp_path, text)).TRAINING.__name__ == "Bad"
