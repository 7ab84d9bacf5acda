"""DuckDB's side of the benchmark: the first line says which files and which SQL; each further line asks for one timed run."""

import json
import sys
import time

import duckdb

world = json.loads(sys.stdin.readline())
database = duckdb.connect()
for file in world["files"]:
    reader = "read_csv" if file["format"] == "csv" else "read_parquet"
    database.execute(f"CREATE SCHEMA IF NOT EXISTS {file['schema']}")
    database.execute(
        f"CREATE VIEW {file['schema']}.{file['table']} AS "
        f"SELECT {file['columns']} FROM {reader}('{file['path']}') WHERE {file['condition']}"
    )
for _ in sys.stdin:
    start = time.perf_counter()
    database.execute(world["sql"]).fetchall()
    print(time.perf_counter() - start, flush=True)
