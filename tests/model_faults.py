"""Faults of a model folder, drawn by hypothesis: bytes, keys of its JSON, headers, tensors, entries of an index."""

import json
from pathlib import Path

import torch
from damage import edit, rewrite
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

BYTES = [0, 34, 44, 45, 48, 57, 91, 93, 123, 125, 239, 255]
ODD = [
    *(True, False, -1, 0, 1, 3, 0.5, -2.5, 64.0, 10**9, 10**30, 10**4000, float("inf"), float("nan")),
    *(
        "",
        "x",
        "64",
        "float16",
        "gpt2",
        "mistral",
        "qwen2",
        "flash_attention_2",
        "owner/kernel",
        "../model.safetensors",
    ),
    *([], {}, [1], [None], {"a": {"b": [1]}}, {"AutoConfig": "own.Own", "AutoTokenizer": ["own.Own", None]}),
]
# Keys that lead transformers to other files, code or layers, and names of what its classes have themselves.
KEYS = """
    auto_map _attn_implementation attn_implementation _experts_implementation quantization_config
    transformers_weights configuration_files fusion_config per_layer_config layer_types num_labels id2label
    architectures torch_dtype dtype pruned_heads _name_or_path is_encoder_decoder rope_scaling sliding_window
    head_dim text_config use_kernels output_attentions gguf_file trust_remote_code base_model_tp_plan
    sub_configs attribute_map to_dict get_text_config __class__ tokenizer_class chat_template
    added_tokens_decoder extra_special_tokens
""".split()
DTYPES = ["F16", "BF16", "F64", "I32", "I64", "U8", "BOOL", "F8_E4M3", "F31", None, 3]
SPANS = [(-4, -4), (4, 4), (0, 4), (4, 0), (-(10**6), 0), (10**30, 10**30), (0.0, 0.0)]  # added to the two offsets


def damaged_bytes(data: st.DataObject, folder: Path) -> None:
    """Change up to three bytes of a file: half of the time in what is no tensor."""
    path = data.draw(st.sampled_from(sorted(folder.iterdir())))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.sampled_from([1, 1, 3]))):
        text = 8 + int.from_bytes(content[:8], "little") if path.suffix == ".safetensors" else len(content)
        end = data.draw(st.sampled_from([8, text, len(content)]))
        place = data.draw(st.integers(0, max(0, min(end, len(content)) - 1)))
        new = data.draw(st.sampled_from([[], BYTES[:1], *([byte] for byte in BYTES)]))
        rest = data.draw(st.sampled_from([place, place + 1, place + 1, place + 1, len(content)]))
        content[place:rest] = bytes(new)
    path.write_bytes(content)


def damaged_keys(data: st.DataObject, folder: Path) -> None:
    """Take a key out of a JSON file, or give it another value."""
    path = data.draw(st.sampled_from([folder / "config.json", *sorted(folder.glob("*.json"))]))
    key = data.draw(st.sampled_from(sorted(json.loads(path.read_text(encoding="utf-8"))) + KEYS))
    edit(path, **{key: data.draw(st.sampled_from([None, *ODD]))})


def damaged_header(data: st.DataObject, folder: Path) -> None:
    """Change an entry of a header: its name, dtype, shape, place, or all of it."""

    def change(header):
        name = data.draw(st.sampled_from(sorted(header)))
        entry, kind = dict(header.pop(name)), data.draw(st.integers(0, 6))
        shape, place = entry.get("shape", []), entry.get("data_offsets", [0, 0])
        others = [
            f"{name}x",
            f"model.{name}",
            name.replace("model.", ""),
            name.replace(".0.", ".7."),
            "__metadata__",
            "",
        ]
        shapes = [
            [],
            shape[::-1],
            [2, *shape],
            [-1, *shape],
            [0],
            [10**30],
            [*shape, 1],
            "x",
            [float(n) for n in shape],
        ]
        span = data.draw(st.sampled_from(SPANS))
        new = (
            entry | {"dtype": data.draw(st.sampled_from(DTYPES))},
            entry | {"shape": data.draw(st.sampled_from(shapes))},
            entry | {"data_offsets": [number + more for number, more in zip(place, span, strict=True)]},
            data.draw(st.sampled_from(ODD[:-1])),
        )
        if kind == 6:
            return header
        return header | ({data.draw(st.sampled_from(others)): entry} if kind > 3 else {name: new[kind]})

    rewrite(data.draw(st.sampled_from(sorted(folder.glob("*.safetensors")))), change)


def damaged_tensors(data: st.DataObject, folder: Path) -> None:
    """Drop, rename, add or change a tensor in a file that stays whole."""
    path = data.draw(st.sampled_from(sorted(folder.glob("*.safetensors"))))
    tensors = load_file(path)
    name = data.draw(st.sampled_from(sorted(tensors)))
    others = [
        f"model.{name}",
        name.replace("model.", "", 1),
        name.replace("layers.1", "layers.2"),
        name.replace("weight", "bias"),
    ]
    other = data.draw(st.sampled_from([*others, "v_head.weight", "model.layers.0.attn.masked_bias"]))
    kind, value = data.draw(st.sampled_from("drop rename add cast set".split())), tensors[name]
    if kind in ("drop", "rename"):
        del tensors[name]
    if kind in ("rename", "add"):
        tensors[other] = data.draw(st.sampled_from([value.clone(), torch.ones(64), torch.tensor(-1e4)]))
    if kind == "cast":
        kinds = [torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.int64, torch.bool]
        tensors[name] = value.to(data.draw(st.sampled_from(kinds)))
    if kind == "set":
        value.view(-1)[0] = data.draw(st.sampled_from([float("nan"), float("inf"), 7e4]))
    save_file(tensors, path, {"format": "pt"})


def damaged_index(data: st.DataObject, folder: Path) -> None:
    """Change the index, or put one beside a single file."""
    path, files = folder / "model.safetensors.index.json", sorted(path.name for path in folder.glob("*.safetensors"))
    made = {"metadata": {}, "weight_map": {name: file for file in files for name in load_file(folder / file)}}
    index = json.loads(path.read_text(encoding="utf-8")) if path.exists() else made
    name = data.draw(st.sampled_from(sorted(index["weight_map"])))
    kind, file = (
        data.draw(st.integers(0, 3)),
        data.draw(st.sampled_from([*ODD, *files, "gone.safetensors", "config.json"])),
    )
    if kind == 0:
        index = {key: value for key, value in index.items() if key != data.draw(st.sampled_from(sorted(index)))}
    elif kind == 1:
        del index["weight_map"][name]
    else:
        index["weight_map"][name] = file
    path.write_text(json.dumps(index), encoding="utf-8")


FAULTS = [damaged_bytes, damaged_keys, damaged_keys, damaged_header, damaged_tensors, damaged_index]
