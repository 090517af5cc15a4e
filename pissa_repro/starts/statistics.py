"""What starts know of data: measured over the rows of a dataset, kept in a folder, and read a module at a time."""

import random
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from pissa_repro import methods
from pissa_repro.model import checkpoint, targets, tokens
from pissa_repro.model.architecture import architecture
from pissa_repro.model.blocks import Notes
from pissa_repro.model.load import check_length, default_device, load_base
from pissa_repro.model.skeleton import own_config
from pissa_repro.model.statistics import Measured, measure, row_of
from pissa_repro.runtime.errors import UserError, unknown
from pissa_repro.runtime.progress import track
from pissa_repro.runtime.record import atomic, read_json, read_lines, refuse_no_space
from pissa_repro.runtime.specs import StatisticsSpec
from pissa_repro.sources.prompt import named
from pissa_repro.training.examples import RESPONSE, Example, Lengths, tokenize

if TYPE_CHECKING:
    from transformers import PretrainedConfig

RECORD = "statistics.json"
ROWS_SAID = "(config.methods.<method>.statistics.rows, config.studies.data.rows)"


def measure_model(
    folder: str, spec: StatisticsSpec, rows: Path, into: Path, notes: Path
) -> tuple[dict[str, int], Lengths]:
    """Measure a statistic of a model folder's target modules, a file a module in `into`; notes: of work that goes on.

    Returns the tokens that each module saw, and how the examples fit the window. Raises UserError, before the weights
    are read, for fewer rows than are drawn and for rows that leave nothing to learn from; then as `measure`.
    """
    modules = list(targets.chosen(folder, spec))
    config = own_config(folder)
    examples, lengths = drawn(folder, config, spec, rows)
    refuse_no_space(into, _needed(folder, config, spec, lengths.tokens) - _there(into, notes))
    model = load_base(folder, device="cpu")
    seen = [row_of(model, example["input_ids"], example["labels"]) for example in examples]
    found = measure(model, seen, modules, spec["kind"], default_device(), Notes(notes))
    for name, one in track(found, f"statistics {spec['kind']}", len(modules)):
        _write(into / f"{name}.safetensors", spec["kind"], one)
    return {name: _tokens(into / f"{name}.safetensors") for name in modules}, lengths


def drawn(folder: str, config: "PretrainedConfig", spec: StatisticsSpec, data: Path) -> tuple[list[Example], Lengths]:
    """The rows that are drawn from a file, as training makes examples of them, and how these fit the window."""
    rows = read_lines(data)
    if len(rows) < spec["rows"]:
        raise UserError(f"{data}: {spec['rows']} rows are drawn, and the dataset has {len(rows)} {ROWS_SAID}.")
    check_length(spec["max_length"], config)
    numbers = random.Random(spec["seed"]).sample(range(len(rows)), spec["rows"])
    some, tokenizer = [rows[number] for number in numbers], tokens.load_tokenizer(folder)
    loss, kind = spec.get("loss", RESPONSE), architecture(config)
    return tokenize(some, tokenizer, spec["max_length"], named(spec), loss, kind)


def _needed(folder: str, config: "PretrainedConfig", spec: StatisticsSpec, tokens_: int) -> int:
    """The bytes of the statistics, and of what blocks give on the way: of two, and of all for the way back."""
    whole = {"gradient": lambda out, into: out * into, "covariance": lambda out, into: into**2}
    size = whole.get(spec["kind"], lambda out, into: into)
    text = config.get_text_config()
    kept = 2 + (text.num_hidden_layers if spec["kind"] == "gradient" else 0)
    values = sum(size(*shape) for shape in checkpoint.shapes(folder, list(targets.chosen(folder, spec))).values())
    return 4 * (values + kept * tokens_ * text.hidden_size)


def _there(*folders: Path) -> int:
    return sum(path.stat().st_size for folder in folders for path in folder.glob("*.safetensors"))


def _write(path: Path, kind: str, measured: Measured) -> None:
    with atomic(path, "wb") as file:
        file.write(save({kind: measured.value.contiguous()}, {"tokens": str(measured.tokens)}))


def _tokens(path: Path) -> int:
    with safe_open(path, framework="pt") as file:
        return int(file.metadata()["tokens"])


class Asked(dict[str, torch.Tensor]):
    """Those of a module's statistics that a method's file asks for, by kind. Raises UserError for another one."""

    def __init__(self, method: str, given: Mapping[str, torch.Tensor]):
        self.method, self.kinds = method, tuple(methods.load(method).STATISTICS)
        super().__init__({kind: given[kind] for kind in self.kinds})

    def __missing__(self, kind: str) -> torch.Tensor:
        file = methods.PLUGINS.file(self.method)
        if kind not in methods.KINDS:
            raise unknown("kind of statistic", kind, methods.KINDS, file)
        raise UserError(
            f"{file}: reads the {kind} of data, and STATISTICS asks for {' and '.join(self.kinds) or 'none'}. Say "
            f"STATISTICS = {{'{kind}': {{'rows': ...}}}} there, with how many rows it is measured over."
        )


class Known:
    """Statistics of a model's modules in folders that the stage has written, one for each kind.

    specs: of each, by kind. data_sha256: of the rows; None without any. Raises UserError for a folder of another model
    (`fingerprint`), for two of one kind, and for rows of two datasets.
    """

    def __init__(self, folders: Iterable[Path], fingerprint: str):
        self.folders: dict[str, Path] = {}
        self.specs: dict[str, StatisticsSpec] = {}
        self.data_sha256: str | None = None
        for folder in folders:
            record = read_json(folder / RECORD)
            kind = record["spec"]["kind"]
            if record["base"]["fingerprint"] != fingerprint:
                raise UserError(f"{folder}: statistics of another model, {record['base']['name']}. Delete the folder.")
            if kind in self.folders:
                raise UserError(f"{folder}: statistics of kind '{kind}', as in {self.folders[kind]}. Give one of them.")
            if self.data_sha256 not in (None, record["data_sha256"]):
                raise UserError(f"{folder}: statistics of other rows than {next(iter(self.folders.values()))}.")
            self.folders[kind], self.specs[kind] = folder, record["spec"]
            self.data_sha256 = record["data_sha256"]

    def check(self, wanted: Mapping[str, StatisticsSpec]) -> None:
        """Raise UserError where these are not the statistics that a spec names."""
        if dict(wanted) != self.specs:
            raise UserError(
                f"--statistics: the spec asks for {sorted(wanted) or 'none'}, and these are {sorted(self.specs)}, or "
                "they were made from another config. Delete their folders and run again."
            )

    def of(self, module: str, rank: int, device: torch.device) -> dict[str, torch.Tensor]:
        """A module's statistics by kind, float32.

        Raises UserError for a module that they do not hold, for values that are not finite, and where fewer tokens than
        the rank were seen: they span less than the factors would take from them.
        """
        return dict(self._of(module, rank, device))

    def _of(self, module: str, rank: int, device: torch.device) -> Iterator[tuple[str, torch.Tensor]]:
        for kind, folder in self.folders.items():
            path = folder / f"{module}.safetensors"
            if not path.is_file():
                raise UserError(f"{folder}: holds no {kind} of {module}. Its target modules are other ones.")
            value, seen = _read(path, kind, device)
            if seen < rank:
                raise UserError(
                    f"{path}: the {kind} is of {seen} tokens, fewer than rank {rank} needs. Draw more rows {ROWS_SAID}."
                )
            yield kind, value


def _read(path: Path, kind: str, device: torch.device) -> tuple[torch.Tensor, int]:
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            value, seen = file.get_tensor(kind), int(file.metadata()["tokens"])
    except (SafetensorError, TypeError, KeyError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error}). Delete its folder and run again.") from None
    if not value.isfinite().all():
        raise UserError(f"{path}: holds NaN or infinite values. Delete its folder and run again.")
    return value, seen
