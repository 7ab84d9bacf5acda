"""pandas, polars and duckdb, through ADBC streams."""

import os
import pathlib
import tempfile

import duckdb
import pandas
import polars
import pyarrow as pa

from world import WORLD, connect, options

VIEW = "SELECT * FROM views.opportunity_by_region"


def test_pandas():
    with connect() as connection:
        frame = pandas.read_sql(VIEW, connection)
        assert "region" in frame.columns and len(frame) >= 9
        withheld = frame[frame["withheld"].fillna("").str.startswith("persons")]
        assert len(withheld) >= 1 and withheld["persons"].isna().all(), frame


def test_the_readme_says_what_works():
    readme = (pathlib.Path(__file__).parents[2] / "README.md").read_text()
    block = readme.split("```python")[1].split("```")[0]
    with tempfile.TemporaryDirectory() as folder:
        here = pathlib.Path(folder)
        (here / "concordat-demo/ca").mkdir(parents=True)
        (here / "concordat-demo/ca/ca.pem").write_text(WORLD["ca"])
        (here / "token.jwt").write_text(WORLD["token"] + "\n")
        os.chdir(folder)
        said = {}
        exec(block.replace("grpc+tls://127.0.0.1:PORT", WORLD["uri"]), said)
        said["connection"].close()
        os.chdir("/")


def test_polars():
    with connect() as connection:
        frame = polars.read_database(VIEW, connection)
        assert frame.height >= 9 and frame.filter(polars.col("withheld").is_not_null()).height >= 1


def test_duckdb_joins_a_stream_to_a_local_table():
    local = duckdb.connect()
    local.execute("CREATE TABLE nation AS SELECT * FROM (VALUES ('London', 'England'), ('South East', 'England')) t(region, nation)")
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(VIEW)
        stream = cursor.fetch_record_batch()
        rows = local.execute("SELECT n.nation, sum(s.persons) FROM stream s JOIN nation n USING (region) GROUP BY 1").fetchall()
    assert len(rows) == 1 and rows[0][1] > 20, rows


def test_the_summary_travels_with_the_answer():
    import json

    import pyarrow.flight as flight

    from world import call, flight_client

    with flight_client() as client:
        descriptor = flight.FlightDescriptor.for_command(statement(VIEW))
        info = client.get_flight_info(descriptor, call())
        reader = client.do_get(info.endpoints[0].ticket, call())
        summary = None
        while True:
            try:
                chunk = reader.read_chunk()
            except StopIteration:
                break
            if chunk.app_metadata:
                summary = json.loads(chunk.app_metadata.to_pybytes())
        assert info.schema.names[0] == "region"
        assert summary is None or summary["log_entry"] > 0


def statement(sql):
    """A CommandStatementQuery in an Any, by hand: what a client without ADBC would send."""

    def field(number, data):
        return bytes([number << 3 | 2]) + varint(len(data)) + data

    def varint(n):
        out = b""
        while n > 127:
            out += bytes([n & 127 | 128])
            n >>= 7
        return out + bytes([n])

    url = b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"
    return field(1, url) + field(2, field(1, sql.encode()))


assert pa and options and WORLD
