"""The peers of the benchmark of joined views: engines that read copies of all departments' files, with no rule at all.

The first line says which engine, which files and which questions; each further line names a question and asks for one timed run. `duckdb` and
`polars` read the files as they are. `prepared` is DuckDB over its own tables, sorted by what is joined on, which it was given time to make: as
nodes are for their snapshots. `export` writes the files as CSV for PostgreSQL, with the statements that make its tables.
"""

import json
import sys
import time
from pathlib import Path

world = json.loads(sys.stdin.readline())
files, questions = world["files"], world["questions"]


def of_duckdb(prepared):
    import duckdb

    database = duckdb.connect()
    for file in files:
        table = f"{file['schema']}.{file['table']}"
        rows = f"SELECT {file['columns']} FROM read_{file['format']}('{file['path']}') WHERE {file['condition']}"
        database.execute(f"CREATE SCHEMA IF NOT EXISTS {file['schema']}")
        database.execute(f"CREATE TABLE {table} AS {rows} ORDER BY subject" if prepared else f"CREATE VIEW {table} AS {rows}")
    return database


def of_polars():
    import polars

    frames = {}
    for file in files:
        # A folder's own files; `*` of a path without it is the path.
        path = Path(file["path"])
        source = sorted(path.iterdir()) if path.is_dir() else path
        frame = polars.scan_csv(source) if file["format"] == "csv" else polars.scan_parquet(source)
        frames[f"{file['schema']}_{file['table']}"] = frame.sql(f"SELECT {file['columns']} FROM self WHERE {file['condition']}")
    context = polars.SQLContext(frames)

    def run(sql):
        for file in files:
            sql = sql.replace(f"{file['schema']}.{file['table']}", f"{file['schema']}_{file['table']}")
        return context.execute(sql).collect(engine="streaming")

    return run


def export(folder):
    database = of_duckdb(prepared=False)
    kinds = {"VARCHAR": "text", "DOUBLE": "double precision"}
    for file in files:
        table = f"{file['schema']}.{file['table']}"
        columns = database.execute(f"DESCRIBE {table}").fetchall()
        columns = ", ".join(f"{name} {kinds.get(kind, kind)}" for name, kind, *_ in columns)
        path = f"{folder}/{file['schema']}.{file['table']}"
        database.execute(f"COPY {table} TO '{path}.csv' (HEADER)")
        Path(f"{path}.sql").write_text(f"CREATE TABLE {file['table']} ({columns});\n")


if world["engine"] == "export":
    export(world["folder"])
    sys.exit()
if world["engine"] == "polars":
    run = of_polars()
else:
    database = of_duckdb(prepared=world["engine"] == "prepared")

    def run(sql):
        return database.sql(sql).to_arrow_table()


for name in sys.stdin:
    start = time.perf_counter()
    rows = run(questions[name.strip()])
    print(time.perf_counter() - start, len(rows), flush=True)
