"""Makes cases.json: generated contributions, and what `acro` says of each cell. See README.md beside this file."""

import importlib.metadata
import json
import logging
import os
import random
import tempfile

import pandas as pd

# Of each cell: how many contribute, and the shape of what they contribute.
SIZES = [1, 2, 3, 5, 8, 9, 10, 11, 12, 15, 20, 30]
SHAPES = ["even", "long tail", "one giant", "two giants", "a giant and a follower", "mostly zero"]
# The rules' names in acro.
CHECKS = {"MinimumThresholdCheck": "threshold", "NKCheck": "nk", "PPercentCheck": "p_percent"}


def contributions(draw: random.Random, size: int, shape: str) -> list[int]:
    if shape == "long tail":
        return [round(draw.lognormvariate(6, 1.5)) + 1 for _ in range(size)]
    if shape == "mostly zero":
        return [draw.choice([0, 0, 0, draw.randint(1, 500)]) for _ in range(size - 1)] + [draw.randint(1, 500)]
    all_of_them = [draw.randint(80, 120) for _ in range(size)]
    for place, weight in enumerate({"even": [], "one giant": [1.0], "two giants": [0.5, 0.5]}.get(shape, [0.7, 0.3])[:size]):
        # Around the limit of 90 %: from 70 % to 97 %.
        share = draw.uniform(0.70, 0.97)
        all_of_them[place] += round(100 * size * share / (1 - share) * weight)
    return all_of_them


def main() -> None:
    draw = random.Random(2026)
    cases = [
        {"name": f"{shape}, {size}", "contributions": contributions(draw, size, shape)} for shape in SHAPES for size in SIZES
    ]
    frame = pd.DataFrame(
        [(f"c{place:03}", "all", float(value)) for place, case in enumerate(cases) for value in case["contributions"]],
        columns=["cell", "column", "value"],
    )
    logging.disable(logging.CRITICAL)
    # acro writes into the current folder.
    os.chdir(tempfile.mkdtemp())
    import acro

    session = acro.ACRO(suppress=False)
    session.crosstab(frame.cell, frame.column, values=frame.value, aggfunc="sum")
    record = session.results.get_index(0)
    cells = record.sdc["cells"]
    for case in cases:
        case.update({name: False for name in CHECKS.values()})
    for check, name in CHECKS.items():
        for row, _ in cells[check]:
            cases[row][name] = True
    made = {
        "made_by": f"make.py with acro {importlib.metadata.version('acro')}, its default risk appetite: none of it is about anybody",
        "threshold": 10,
        "nk": {"largest": 2, "share": 90},
        "p_percent": 10,
    }
    lines = ",\n".join("    " + json.dumps(case) for case in cases)
    head = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in made.items())
    print(f'{{\n{head},\n  "cases": [\n{lines}\n  ]\n}}')


if __name__ == "__main__":
    main()
