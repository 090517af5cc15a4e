"""Every quantizer's file keeps the contract of quantizers.Quantizer. Files are found by scanning, none is named here.

Only `none`, no quantization, has a name: the whole project knows it. The bits of the 4-bit types and of int8 are in
test_quantize.py.
"""

import re
import subprocess
import sys

import pytest
import torch
from stage import says
from starting import decaying

from pissa_repro import quantizers
from pissa_repro.adapters import released_card
from pissa_repro.plan import config
from pissa_repro.runtime.plugins import members

every_quant = pytest.mark.parametrize("quant", quantizers.names())
every_file = pytest.mark.parametrize("file", quantizers.PLUGINS.names())
SHAPES = [(64, 64), (48, 128), (33, 100), (1, 1)]
LAYERS = [torch.nn.Linear(width, 24) for width in (64, 172, 256)]


def test_scan_finds_the_files_and_all_are_whole():
    quantizers.PLUGINS.check()
    assert len(quantizers.PLUGINS.names()) > 1 and all(quantizers.PLUGINS.lines().values())


@every_file
def test_a_quant_is_a_file_and_one_of_its_variants(file):
    found = {name: quant for name, quant in quantizers._quants().items() if quant.file == file}
    assert {name.removeprefix(file): quant.options for name, quant in found.items()} == dict(
        quantizers.PLUGINS.load(file).VARIANTS
    )


def test_plain_quants_come_first_and_none_before_all():
    """Lists and choices are in this order."""
    files = [name for name in quantizers.names() if name in quantizers.PLUGINS.names()]
    assert quantizers.names()[0] == "none" and list(quantizers.names()[: len(files)]) == files


def test_a_name_that_there_is_not_is_told_with_the_nearest():
    name = quantizers.names()[1]
    says(lambda: quantizers.find(name + "x", "here"), "here", f"unknown quant '{name}x'", f"Did you mean '{name}'?")


def test_no_torch_before_a_weight_is_quantized():
    code = (
        "import sys\nfrom pissa_repro import quantizers\nquantizers.names()\n"
        "print(sorted({'torch', 'bitsandbytes', 'numpy'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=config.ROOT, check=True
    )
    assert found.stdout.strip() == "[]"


def test_the_guides_table_holds_every_name_of_the_contract():
    guide = (config.ROOT / "docs/guides/add_a_quantizer.md").read_text(encoding="utf-8")
    section = guide.partition("\n## What the file declares\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)", row)) == sorted(members(quantizers.Quantizer))


@every_quant
@pytest.mark.parametrize("shape", SHAPES)
def test_shape_dtype_and_the_same_bits_again(quant, shape):
    weight = decaying(*shape)
    made = quantizers.roundtrip(weight, quant)
    assert made.shape == shape and made.dtype == torch.float32 and made.isfinite().all()
    assert torch.equal(made, quantizers.roundtrip(weight, quant))


@every_quant
@pytest.mark.parametrize("scale", [0.01, 30.0])
def test_the_same_bits_on_any_number_of_threads(quant, scale):
    """More values than torch hands to one thread, in rows whose ends are no ends of blocks."""
    weight = scale * torch.randn(611, 301, generator=torch.Generator().manual_seed(0))
    before, made = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            made.append(quantizers.roundtrip(weight, quant))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(made[0], made[1]) and torch.equal(made[0], made[2])


def test_none_is_the_identity():
    weight = decaying(48, 64)
    assert torch.equal(quantizers.roundtrip(weight, "none"), weight)


@every_quant
def test_an_input_with_nothing_to_spare_is_kept(quant):
    weight = decaying(48, 128)
    kept = weight.clone()
    spared = quantizers.roundtrip(weight.clone(), quant, spare=True)
    assert torch.equal(quantizers.roundtrip(weight, quant), spared) and torch.equal(weight, kept)


def test_a_block_of_zeros_stays_zero():
    for quant in quantizers.names():
        assert torch.equal(quantizers.roundtrip(torch.zeros(64, 64), quant), torch.zeros(64, 64))


@every_quant
def test_what_is_lost_is_a_part_of_the_weight(quant):
    weight = decaying(48, 128)
    lost = (weight - quantizers.roundtrip(weight, quant)).norm() / weight.norm()
    assert lost < 0.5 and (lost == 0) == (quant == "none")


@pytest.mark.parametrize("quant", [q for q in quantizers.in_blocks() if quantizers.find(q).quantizer.LEVELS])
def test_a_block_holds_levels_times_one_scale(quant):
    _, quantizer, options = quantizers.find(quant)
    levels = torch.tensor(quantizer.LEVELS)
    assert torch.equal(levels, levels.sort().values) and levels.abs().max() == 1
    weight = decaying(48, 128)
    blocks, made = (m.view(-1, options["blocksize"]) for m in (weight, quantizers.roundtrip(weight, quant)))
    largest = blocks.abs().argmax(1, keepdim=True)
    scaled = made / made.gather(1, largest).abs()
    assert (scaled[..., None] - levels).abs().amin(-1).max() < 1e-5
    if not options["double"]:
        assert torch.allclose(made.gather(1, largest).abs(), blocks.gather(1, largest).abs(), rtol=1e-6)


@every_quant
def test_the_base_is_the_quantized_rest(quant):
    weight, offset = decaying(48, 128), decaying(48, 128, seed=1)
    wanted, kept = quantizers.roundtrip(weight - offset, quant), weight.clone()
    assert torch.equal(quantizers.base_weight(weight, offset, quant), wanted)  # it overwrites the offset
    assert torch.equal(quantizers.base_weight(weight, None, quant), quantizers.roundtrip(weight, quant))
    assert torch.equal(weight, kept)
    assert quantizers.base_weight(weight.bfloat16(), None, quant).dtype == torch.float32


@every_quant
def test_a_packed_layer_computes_with_the_base(quant):
    """What a layer does to unit vectors is its weight."""
    for layer in LAYERS:
        if quantizers.packable(layer, quant):
            weight = decaying(24, layer.in_features)
            packed = quantizers.packed(layer, weight, quant, torch.float32)
            seen = packed(torch.eye(layer.in_features)) - layer.bias
            assert torch.allclose(seen.T, quantizers.base_weight(weight, None, quant), atol=1e-5)
            assert not any(parameter.requires_grad for name, parameter in packed.named_parameters() if name != "bias")
    assert not quantizers.packable(torch.nn.Embedding(4, 64), quant)


@every_quant
def test_a_card_says_how_to_load_in_few_bits_only_what_bitsandbytes_packs_so(quant):
    from transformers import BitsAndBytesConfig

    _, quantizer, options = quantizers.find(quant)
    words = quantizer.bitsandbytes(options)
    card = "".join(released_card._quantized({"quant": quant}))
    assert ("BitsAndBytesConfig(" in card) == bool(words)
    if words:
        asked, layer = BitsAndBytesConfig(**words), LAYERS[0]
        state = quantizers.packed(layer, decaying(24, layer.in_features), quant, torch.float32).weight.quant_state
        said = (asked.load_in_4bit, asked.bnb_4bit_quant_type, asked.bnb_4bit_use_double_quant, 64)
        assert said == (True, state.quant_type, state.nested, state.blocksize)
