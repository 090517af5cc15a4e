"""Ways to damage a model folder."""

import json
import os
from pathlib import Path


def edit(path: Path, **changes) -> None:
    content = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), encoding="utf-8")


def shards(folder: Path) -> list[Path]:
    """Split the folder's weights into two shards with an index."""
    from safetensors.torch import load_file, save_file

    whole = folder / "model.safetensors"
    tensors = load_file(whole)
    names, parts = sorted(tensors), [folder / f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    where = {name: parts[i % 2] for i, name in enumerate(names)}
    for part in parts:
        save_file({name: tensors[name] for name in names if where[name] == part}, part, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: part.name for name, part in where.items()}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    whole.unlink()
    return parts


def overwrite(path: Path, position: int, content: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(position)
        file.write(content)


def cut(path: Path, size: int) -> None:
    os.truncate(path, path.stat().st_size + size if size < 0 else size)


def add(folder: Path, leave_out: tuple[str, ...] = (), **tensors) -> None:
    """Add tensors to the folder's weights (a dot is written __), or leave some out."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(path).items() if name not in leave_out}
    save_file(kept | {name.replace("__", "."): t for name, t in tensors.items()}, path, {"format": "pt"})


def move_in_index(folder: Path) -> None:
    """Say in the index that a tensor is in the other shard."""
    parts = shards(folder)
    index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
    index["weight_map"]["lm_head.weight"] = parts[1].name
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def rewrite(path: Path, change) -> None:
    """Put what `change` makes of the header's JSON before the file's tensors, with its right length."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = change(json.loads(content[8:end]))
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])


def replace(path: Path, kind: str) -> None:
    """A pipe, a folder, a link to nothing or an empty file in place of a file, or its name alone."""
    path.unlink(missing_ok=True)
    make = {"pipe": os.mkfifo, "folder": Path.mkdir, "link": lambda p: p.symlink_to("nowhere"), "empty": Path.touch}
    make[kind](path)
