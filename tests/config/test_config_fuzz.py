"""Case 15: a config that somebody has broken somewhere gives a safe sweep of some size, or one message."""

import copy
import itertools
import math
import re

import hypothesis
from hypothesis import strategies as st
from swept import files_of, names_of
from test_workflow import ROOT

from pissa_repro.plan.checked import checked
from pissa_repro.plan.config import MOST_SCORES, load
from pissa_repro.plan.reading import merge, read
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import canonical

DEFAULT = ROOT / "config" / "config.yaml"
SHIPPED = sorted(path for path in (ROOT / "config").glob("*.yaml") if path.stem != "schema")
SAFE = re.compile(r"[A-Za-z0-9._~-]{1,200}")
TOP = {"results", "logs", "scratch"}

ODD_TEXTS = [
    "../x", "..", ".", "$(touch X)", "`touch X`", "a/b", "/etc/passwd", "a\nb", "a\n", "\n", "a\0b", "", " ", "é", "٣",
    "\ud800", "1", "1e-3", "0.5", "no", "null", "rank", "none", "nf4", "x" * 65, "x" * 300, "x" * 10**5, "{a}",
    "{model}", "a;b", "-x", "'", '"', "*", "~", "niter_1", "embedded", "embedded:test", "__proto__",
]  # fmt: skip
ODD_VALUES = [
    0, 1, -1, 4, 4.0, 2.5, -0.0, 1e-320, 1e300, math.inf, -math.inf, math.nan, 2**31, 2**32, 2**63, 10**400, 10**5000,
    True, False, None, [], {}, [[]], [None], [1, 1], [1, 1.0], b"x", (1, 2), {1, 2}, {1: 2}, {None: 1}, {True: {}},
    object(), list(range(900)), list(range(2000)), ["a", 1, None, {}] * 200,
]  # fmt: skip
TEXTS = st.one_of(st.sampled_from(ODD_TEXTS), st.text(max_size=8))
VALUES = st.one_of(TEXTS, st.sampled_from(ODD_VALUES), st.integers(), st.floats())


def merged(path):
    """What a shipped config says, with the default below it."""
    content = read(DEFAULT)
    merge(content, read(path))
    return content


BASES = {path.stem: merged(path) for path in SHIPPED}


def places(part, levels=8):
    """Every (holder, key), down to some depth."""
    inside = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, value in inside:
        yield part, key
        yield from places(value, levels - 1) if levels else ()


def rename(draw, holder, key):
    """Another key in its place; of a list, another place."""
    value = holder.pop(key)
    if isinstance(holder, list):
        holder.insert(0, value)
    else:
        holder[draw(st.one_of(TEXTS, st.sampled_from([1, None, True, 1.5])))] = value


def replace(draw, holder, key):
    holder[key] = copy.deepcopy(draw(VALUES))


def delete(draw, holder, key):
    del holder[key]


def nest(draw, holder, key):
    holder[key] = draw(st.sampled_from([{"a": holder[key]}, [holder[key]], {str(key): holder[key]}, [holder[key]] * 2]))


def deepen(draw, holder, key):
    for _ in range(draw(st.sampled_from([10, 40, 100]))):
        holder[key] = [holder[key]]


def multiply(draw, holder, key):
    """A list as long as it may be, where there is one."""
    count = draw(st.sampled_from([50, 1000]))
    holder[key] = list(range(1, count + 1)) if isinstance(holder[key], list) else holder[key]


def as_text(draw, holder, key):
    try:
        holder[key] = str(holder[key])[:5000]
    except ValueError:  # Python writes no number of more than 4,300 digits
        holder[key] = "9" * 5000


def swap(draw, holder, key):
    """The value of another key beside it."""
    holder[key] = copy.deepcopy(
        holder[draw(st.sampled_from(sorted(holder, key=str)))] if isinstance(holder, dict) else key
    )


CHANGES = [rename, replace, replace, delete, nest, deepen, multiply, as_text, swap]


@st.composite
def broken(draw):
    """A shipped config with one to three changes somewhere in it."""
    content = copy.deepcopy(BASES[draw(st.sampled_from(sorted(BASES)))])
    for _ in range(draw(st.integers(1, 3))):
        found = list(itertools.islice(places(content), 3000))
        if found:
            draw(st.sampled_from(CHANGES))(draw, *found[draw(st.integers(0, len(found) - 1))])
    return content


def is_safe(sweep: Sweep, batches):
    """Every name and path stays below its folder, and means nothing to a shell; every spec is JSON."""
    for name in names_of(sweep, batches):
        assert all(SAFE.fullmatch(part) and part.strip(".") for part in name.split("/")), name
    for path in files_of(sweep, batches):
        assert path.parts[0] in TOP and ".." not in path.parts and all(map(SAFE.fullmatch, path.parts)), path
    for name in itertools.islice(batches.by_name, 3):
        canonical(batches.spec(name))
    canonical(sweep.config)


seen = {"good": 0, "refused": 0}


@hypothesis.settings(
    max_examples=1000, suppress_health_check=list(hypothesis.HealthCheck), phases=[hypothesis.Phase.generate]
)
@hypothesis.given(broken())
def test_a_broken_config_gives_a_safe_sweep_or_one_message(content):
    """Case 15: 1,000 configs, in the process and by the function of the dry run; no other error, no endless sweep."""
    try:
        sweep, batches = checked(content)
    except UserError as error:
        seen["refused"] += 1
        assert "config" in str(error) and len(str(error)) < 3000
        str(error).encode("utf-8")
    else:
        seen["good"] += 1
        assert len(sweep.points) * len(sweep.config["sweep"]["tasks"]) <= MOST_SCORES  # so that no config takes long
        if len(sweep.cells) < 2000:
            is_safe(sweep, batches)


def test_the_fuzz_sees_both_ends():
    """Case 15: it would show nothing if it broke every config, or none. Runs after it, or runs it."""
    if not seen["good"]:
        test_a_broken_config_gives_a_safe_sweep_or_one_message()
    assert seen["good"] > 100 and seen["refused"] > 400, seen


@st.composite
def scribbled(draw):
    """The text of a shipped config with one to three edits of lines or characters."""
    text = draw(st.sampled_from(SHIPPED)).read_text(encoding="utf-8")
    for _ in range(draw(st.integers(1, 3))):
        lines = text.split("\n")
        first, second = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
        change = draw(st.sampled_from(["twice", "move", "cut", "insert", "indent"]))
        if change == "twice":
            lines.insert(second, lines[first])
        elif change == "move":
            lines.insert(second, lines.pop(first))
        elif change == "indent":
            lines[first] = draw(st.sampled_from([" ", "\t", "- ", "? ", "<<: ", "!!int "])) + lines[first]
        else:
            place = draw(st.integers(0, len(lines[first])))
            put = draw(
                st.sampled_from([":", "{", "]", "&a ", "*a", "!!set ", '"', "#", "0", "1:30", "no: ", "\0", "é", "%"])
            )
            lines[first] = lines[first][:place] + (put if change == "insert" else "")
        text = "\n".join(lines)
    return text


@hypothesis.settings(
    max_examples=200, suppress_health_check=list(hypothesis.HealthCheck), phases=[hypothesis.Phase.generate]
)
@hypothesis.given(scribbled())
def test_a_scribbled_file_is_read_or_refused_in_one_message(tmp_path_factory, text):
    """Case 15: 200 files, read as `pissa check` reads them."""
    path = tmp_path_factory.getbasetemp() / "scribbled.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        load(DEFAULT, path)
    except UserError as error:
        assert "config" in str(error) or str(path) in str(error)
