"""Case 15: what a config file may quietly say otherwise than it reads."""

import pytest
import yaml
from stage import says
from test_workflow import ROOT, snakemake

from pissa_repro.plan.config import load
from pissa_repro.plan.reading import merge, plain, read

DEFAULT = ROOT / "config" / "config.yaml"
TWICE = "sweep:\n  seeds: [0]\n  ranks: [8]\n  # a comment\n  ranks: [4]\n"


def test_a_key_that_is_given_twice_names_both_lines(written):
    """Case 15: YAML keeps the last one."""
    path = written(TWICE)
    says(lambda: load(DEFAULT, path), str(path), "'ranks'", "line 3 and line 5")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("models: {a: {path: x}, b: {path: y}, a: {path: z}}", ["'a'", "line 1 and line 1"]),
        ("models: {}\ntrain: {}\n'models': {}", ["'models'", "line 1 and line 3"]),
        ("sweep:\n  cells:\n  - {method: a, quant: none, method: b}", ["'method'", "line 3"]),
        ("a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a", ["'<<'", "line 3 and line 4"]),
        ('{"sweep": {"ranks": [1], "ranks": [2]}}', ["'ranks'", "given twice"]),
        ('{"sweep":\n\t{"ranks": [1],\n\t"ranks": [2]}}', ["'ranks'", "given twice"]),
    ],
)
def test_twice_is_found_at_any_depth_and_in_json(written, text, words):
    """Case 15: also in a list, and for a merge key."""
    path = written(text)
    says(lambda: read(path), str(path), *words)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("on", "bool"), ("no", "bool"), ("1", "int"), ("null", "null"), ("~", "null"), ("1_000", "int"), ("010", "int"),
        ("1:30", "int"), ("2024-01-31", "timestamp"), ("1.5", "float"), (".nan", "float"), ("[a]", "seq"),
        ("{a: b}", "map"),
    ],
)  # fmt: skip
def test_a_key_that_yaml_does_not_read_as_a_text_is_refused(written, key, kind):
    """Case 15: `no` would be a model named false, 010 one named 8; in quotes all are names."""
    path = written(f"sweep: {{}}\nmodels:\n  {key}: {{path: x}}\n")
    says(lambda: read(path), str(path), "line 3", kind, "quotes")
    if kind not in ("seq", "map"):
        assert read(written(f'models:\n  "{key}": {{path: x}}\n')) == {"models": {key: {"path": "x"}}}


@pytest.mark.parametrize(
    ("value", "read_as"), [("010", "8"), ("1:30", "90"), ("0x10", "16"), ("0b11", "3"), ("1:30.5", "90.5")]
)
def test_a_number_that_is_not_written_in_decimals_is_refused(written, value, read_as):
    """Case 15: YAML 1.1 reads octal, sexagesimal, hexadecimal and binary numbers."""
    path = written(f"sweep:\n  seeds: [{value}]\n")
    says(lambda: read(path), str(path), "line 2", value, f"as {read_as}.", "quotes")
    assert read(written(f"sweep:\n  seeds: ['{value}']\n")) == {"sweep": {"seeds": [value]}}


def test_a_number_with_underscores_is_that_number(written):
    """Case 15: 1_000 reads as it looks."""
    assert read(written("sweep: {seeds: [1_000]}")) == {"sweep": {"seeds": [1000]}}


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{key}: &{key} [{','.join(['*' + before] * 10)}]\n" for before, key in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{key}: &{key} {{<<: [{','.join(['*' + before] * 10)}]}}\n"
    for before, key in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, ["100,000 values", "alias"]),
        (MERGES, ["line 6", "100,000 values", "alias"]),
        ("models: &a {b: *a}", ["32 levels"]),
        ("models: &a [*a]", ["32 levels"]),
        ("a: &a\n  <<: *a\n", ["not valid YAML", "nested too deeply"]),
        ("a: " + "[" * 5000, ["not valid YAML", "nested too deeply"]),
        ("[" * 100_000, ["not valid YAML", "nested too deeply"]),
        (f"train: {{epochs: {'9' * 5000}}}", ["not valid YAML", "4300 digits"]),
        ("models: {a: {path: 2024-13-45}}", ["not valid YAML", "month"]),
        ("models: {a: {path: 2024-01-31}}", ["config.models.a.path", "date", "quotes"]),
        ("models: {a: {path: !!binary YQ==}}", ["config.models.a.path", "bytes"]),
        ("models: !!set {a}", ["config.models", "set"]),
        ("models: !!bool maybe", ["not valid YAML"]),
        ("models: !!int x", ["not valid YAML"]),
        ("models: !!timestamp x", ["not valid YAML"]),
        ("models: !!python/tuple [a]", ["not valid YAML", "tuple"]),
        ("a: 1\n---\nb: 2\n", ["not valid YAML", "single document"]),
        ("a: *b", ["not valid YAML", "undefined alias"]),
        ("", ["mapping of sections", "NoneType"]),
        ("# only a comment\n", ["mapping of sections", "NoneType"]),
        ("- a\n", ["mapping of sections", "list"]),
        ("NaN", ["mapping of sections", "float"]),
        ("models: {mini-llama: {display: modèle}}".encode("latin-1"), ["not valid YAML", "UTF-8"]),
        ("models: {}".encode("utf-16"), ["not valid YAML", "UTF-8"]),
        (b"models: \x00", ["not valid YAML"]),
        ("__use_yte__: true", ["config", "unknown key '__use_yte__'"]),
        ('models: {a: {path: "a\\ud800"}}', ["config.models.a.path", "U+D800"]),
    ],
    ids=lambda value: repr(value[:24]),
)  # fmt: skip
def test_a_file_that_is_no_config_ends_in_one_message(written, text, words):
    """Case 15: also one that aliases blow up, and one that PyYAML stumbles over."""
    path = written(text)
    says(lambda: load(path), *words)


def test_anchors_and_merge_keys_are_understood(written):
    """Case 15: a key beside `<<` wins over the merged one, and is not given twice."""
    text = "a: &a {x: 1, y: 2}\nb: &b {<<: *a, y: 3}\nc: {<<: [*b, *a], z: 4}\n"
    assert read(written(text)) == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 3, "z": 4}}


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.stem)
def test_what_ships_is_read_as_yaml_reads_it(path):
    """Case 15: the checks change nothing of a sound file, in YAML and with a byte order mark."""
    assert read(path) == yaml.safe_load(path.read_text(encoding="utf-8"))
    assert plain(read(path)) == read(path)


def test_json_is_read_as_snakemake_reads_it(written):
    """Case 15: as JSON, where it is some: 1e-3 is a number there; with tabs and a byte order mark."""
    path = written('\ufeff{\n\t"train": {"weight_decay": 1e-3}\n}')
    assert read(path) == {"train": {"weight_decay": 0.001}}


def test_mappings_merge_and_lists_are_replaced():
    """Case 15: as Snakemake lays one config over another."""
    from snakemake.utils import update_config

    first, second = {"a": {"x": [1], "y": 2}, "b": {"z": 1}, "c": 3}, {"a": {"x": [2]}, "b": None, "d": {"e": 1}}
    ours, theirs = ({key: dict(v) if isinstance(v, dict) else v for key, v in first.items()} for _ in range(2))
    merge(ours, second)
    update_config(theirs, second)
    assert ours == theirs == {"a": {"x": [2], "y": 2}, "b": None, "c": 3, "d": {"e": 1}}


@pytest.mark.parametrize(
    ("text", "more", "words"),
    [
        (TWICE, [], ["'ranks' is given twice", "line 3 and line 5"]),
        (BOMB, [], ["100,000 values"]),
        ("sweep: {seeds: [0]}", ["--config", "models={..: {path: x}}"], ["config.models", "'..' is not a name"]),
    ],
    ids=["twice", "bomb", "--config"],
)
def test_a_dry_run_says_the_same(written, tmp_path, text, more, words):
    """Case 15: Snakemake reads the files itself, and lays the values of `--config` over them."""
    argv = ["-n", "-q", "--cores", "1", "all", "--configfile", str(written(text)), *more]
    done = snakemake(*argv, folder=tmp_path, check=False)
    said = done.stdout + done.stderr
    assert done.returncode and all(word in said for word in words) and "Traceback" not in said, said[-2000:]
