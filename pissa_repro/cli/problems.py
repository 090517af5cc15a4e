"""python -m pissa_repro.cli.problems --split test --rows 5 [--seed 0]

Prints gsm-mini (generated) problems as JSON lines: word problems of two to four steps in the
schema of GSM8K (question, answer; `<<a=b>>` calculator annotations; a last line `#### N`).
It is not GSM8K.

The split of a problem follows from its text, so splits are disjoint whatever the seed or the
number of rows: names and things are masked, the rest is hashed, and the hash falls to one split.
A test problem is therefore not even a train problem with another name in it.
"""

import argparse
import json

from pissa_repro.embedded.problems import SPLITS, generate


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", required=True, choices=SPLITS)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    try:
        problems = generate(options.split, options.rows, options.seed)
    except ValueError as error:
        parser.error(str(error))
    for problem in problems:
        print(json.dumps(problem))


if __name__ == "__main__":
    main()
