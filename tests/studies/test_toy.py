"""The toy of Figure 2a: its data, what each method trains, and the figure with the published losses beside."""

import gzip
import json

import numpy
import pytest
import torch
from stage import says
from studied import caption, sweep_of

from pissa_repro.exhibits import PLUGINS, targets
from pissa_repro.plan import toy as plan
from pissa_repro.report.figures import style
from pissa_repro.report.figures.toy import theirs
from pissa_repro.runtime import paths
from pissa_repro.runtime.record import canonical, read_json, write_json
from pissa_repro.stages import study_toy
from pissa_repro.starts.make import generator
from pissa_repro.studies import digits, toy

HEADS = {"images": (2051, 6, 2, 2), "labels": (2049, 6)}


def packed(kind: str, values, head=None) -> bytes:
    """A file of MNIST's format."""
    return numpy.array(head or HEADS[kind], ">u4").tobytes() + numpy.array(values, "u1").tobytes()


def write(folder, zipped: bool, **given):
    """Six pictures of 2 x 2 pixels, each with its digit 0 to 5, in both files."""
    whole = {"images": packed("images", range(24)), "labels": packed("labels", range(6))} | given
    for name, raw in zip(plan.FILES, whole.values(), strict=True):
        (folder / (f"{name}.gz" if zipped else name)).write_bytes(gzip.compress(raw) if zipped else raw)
    return folder


def sweep_with(**settings):
    return sweep_of("nowhere", toy=settings)


@pytest.fixture(scope="module")
def small():
    """The spec of two short trainings on the digits that are at hand."""
    return plan.spec(sweep_with(seeds=2)) | {"pretrain_epochs": 20, "epochs": 10}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The record of two seeds, as the workflow makes it."""
    sweep, results = sweep_with(seeds=2), tmp_path_factory.mktemp("toy")
    study_toy.main(["--spec", canonical(plan.spec(sweep)), "--digits", "--out", str(paths.toy(results))])
    return sweep, results


def test_the_files_of_mnist_are_read_packed_or_not(tmp_path):
    found = []
    for zipped in (True, False):
        (tmp_path / str(zipped)).mkdir()
        sweep = sweep_with(data=str(write(tmp_path / str(zipped), zipped)))
        assert plan.spec(sweep)["data"] == "mnist" and str(tmp_path) not in canonical(plan.spec(sweep))
        found.append(digits.read(plan.files(sweep)))
        assert found[-1].labels.tolist() == [0, 1, 2, 3, 4, 5] and found[-1].pixels[1].tolist() == [4, 5, 6, 7]
    assert found[0].sha256 == found[1].sha256
    pixels, labels = found[0].drawn(True, 2, torch.Generator().manual_seed(0))
    assert len(pixels) == 2 and all(pixel[0] // 4 // 2 == label for pixel, label in zip(pixels, labels, strict=True))


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        ({"images": b""}, ("not whole", "first number 2051")),
        ({"images": packed("images", range(23))}, ("not whole", "images-idx3")),
        ({"labels": packed("labels", range(24), HEADS["images"])}, ("labels-idx1", "first number 2049")),
        ({"labels": packed("labels", range(5), (2049, 5))}, ("6 images for 5 labels",)),
        ({"labels": packed("labels", [0, 1, 2, 3, 4, 77])}, ("must be 0 to 9",)),
    ],
)
def test_files_that_are_something_else_are_refused(tmp_path, spoilt, words):
    files = plan.files(sweep_with(data=str(write(tmp_path, True, **spoilt))))
    says(lambda: digits.read(files), *words)


def test_a_folder_without_the_files_is_named_before_any_work(tmp_path):
    says(lambda: plan.files(sweep_with(data=str(tmp_path))), "config.studies.toy.data", str(tmp_path), plan.FILES[0])
    says(lambda: sweep_with(seeds=0), "config.studies.toy.seeds", "0")
    none = sweep_of("nowhere", toy=None)
    assert not plan.records(none) and paths.figure("paper/figure2a") not in targets(none, "studies")


def test_released_inputs_are_principal_components_of_both_tasks(small):
    made = digits.task(digits.read([]), small, plan.VARIANTS["released"], generator(0, "rows"))
    both = torch.cat([made.odd[0], made.even[0]]).double()
    squares = both.T @ both
    assert both.shape[1] == 8 and (both.mean(0).abs() < 1e-3).all()
    assert (squares - squares.diag().diag()).abs().max() < 1e-4 * squares.max()
    assert (squares.diag().diff() < 0).all()
    assert set(made.odd[1].tolist()) == set(made.even[1].tolist()) == set(range(5))


def test_rank_8_of_the_released_toy_is_full_rank():
    """Both matrices are trained whole: nothing of W is left in the base of PiSSA."""
    noise = torch.Generator().manual_seed(0)
    for shape, shapes in (((128, 8), [(8, 8), (128, 8)]), ((5, 128), [(5, 128), (5, 5)])):
        weight = torch.randn(shape, generator=noise)
        made = toy.layer("pissa", "x", weight, 8, 0)
        assert [tuple(part.shape) for part in made.trained] == shapes
        torch.testing.assert_close(made.trained[1] @ made.trained[0], weight)
    assert [len(part.T) for part in toy.layer("lora", "x", weight, 8, 0).trained] == [128, 8]


def test_all_methods_start_as_the_same_network_and_it_is_torchs(small):
    for variant in plan.VARIANTS.values():
        given, weights, runs = next(toy.seeds(digits.read([]), small, variant))
        linear = [torch.nn.Linear(*weight.T.shape, bias=False) for weight in weights]
        for layer, weight in zip(linear, weights, strict=True):
            layer.weight.data = weight
        net = torch.nn.Sequential(linear[0], torch.nn.ReLU(), linear[1])
        wanted = torch.nn.functional.cross_entropy(net(given.even[0]), given.even[1]).item()
        assert [run.losses[0] for run in runs.values()] == pytest.approx([wanted] * len(runs), rel=1e-4)
        assert all(run.losses[-1] < run.losses[0] for run in runs.values())


def test_the_figure_shows_both_variants_with_the_published_losses(made):
    sweep, results = made
    with style.context():
        figure = PLUGINS.load("figure2a").make(sweep, results)
        figure.draw_without_rendering()
    record = read_json(paths.toy(results))
    assert [block.get_suptitle().split()[-1] for block in figure.subfigs] == list(plan.VARIANTS)
    for block, name in zip(figure.subfigs, plan.VARIANTS, strict=True):
        losses, text = record["variants"][name]["losses"], caption(block)
        right = next(axes for axes in block.axes if axes.get_title() == "loss on even digits")
        lines = {line.get_label().split(",")[0]: line for line in right.lines if "published" not in line.get_label()}
        for method, label in (("full", "full FT"), ("lora", "LoRA"), ("pissa", "PiSSA")):
            ours = numpy.mean(losses[method], axis=0)
            numpy.testing.assert_allclose(lines[label].get_ydata(), ours)
            assert f"{label} {ours[-1]:.3f} \u00b1" in text
        hollow = {line.get_ydata()[0] for line in right.lines if "published" in line.get_label()}
        assert hollow == {2.014, 6.037, 1.78} == set(theirs().values())
        assert ("full rank" in text) == (name == "released") and "not MNIST" in text
        last = [[losses[method][seed][-1] for method in ("pissa", "full", "lora")] for seed in range(2)]
        in_order = sum(one == sorted(one) for one in last)
        assert f"PiSSA < full FT < LoRA in {in_order} of 2 seeds" in text
        assert "PiSSA \u2212 LoRA: -" in text


def test_a_record_of_other_settings_or_with_a_hole_is_refused(made, tmp_path):
    sweep, results = made
    figure = PLUGINS.load("figure2a")
    says(lambda: figure.make(sweep_with(seeds=3), results), "spec.seeds is 2, the config says 3")
    record = json.loads(paths.toy(results).read_text(encoding="utf-8"))
    record["variants"]["printed"]["losses"]["lora"][1][4] = None
    write_json(paths.toy(tmp_path), record)
    says(lambda: figure.make(sweep, tmp_path), "printed, lora", "no finite number")
