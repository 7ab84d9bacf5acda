"""Runs the tests of one module: `run.py adbc`, or `run.py adbc test_dbapi`. Exit 0 when all pass; says which were run."""

import importlib
import importlib.metadata
import sys
import traceback

module = importlib.import_module(sys.argv[1])
chosen = sys.argv[2:]
tests = [(n, t) for n, t in vars(module).items() if n.startswith("test_") and t.__module__ == module.__name__ and (not chosen or n in chosen)]
assert tests, "no such test"
failed = 0
for name, test in tests:
    try:
        test()
        print(f"ok {sys.argv[1]}.{name}", flush=True)
    except Exception:
        failed += 1
        print(f"FAILED {sys.argv[1]}.{name}", flush=True)
        traceback.print_exc(file=sys.stdout)
packages = ("adbc-driver-flightsql", "duckdb", "pandas", "polars", "pyarrow")
print(", ".join(f"{p} {importlib.metadata.version(p)}" for p in packages))
sys.exit(1 if failed else 0)
