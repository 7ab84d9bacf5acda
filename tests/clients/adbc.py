"""adbc-driver-flightsql: connecting, the tree of objects, DB-API, parameters, sessions, cancelling."""

import datetime
import decimal
import pathlib
import re
import threading
import time

import adbc_driver_flightsql
import adbc_driver_manager
import pyarrow as pa

from world import PURPOSE, WORLD, connect, refused


def answers_begun():
    """How many answers the gateway's log has opened: its full bundles and its tail, which may overlap."""
    log = pathlib.Path(WORLD["log"])
    files = [path for path in log.glob("tile/entries/**/*") if path.is_file() and path.parent.suffix != ".p"]
    text = b"".join(path.read_bytes() for path in [*files, log / "tail"])
    return len(set(re.findall(rb'"query_id":"([^"]+)","intent":"answer"', text)))


BY_REGION = "SELECT region, count(*) AS persons FROM dfe.attainment GROUP BY region ORDER BY region"


def test_connects_without_a_warning_and_says_what_it_is():
    with connect() as connection:
        info = connection.adbc_get_info()
        assert info["vendor_name"] == "Concordat", info
        assert set(connection.adbc_get_table_types()) == {"TABLE", "VIEW"}
        connection.commit()
        connection.rollback()


def test_the_tree_shows_missions_views_and_datasets_with_comments():
    with connect() as connection:
        tree = connection.adbc_get_objects(depth="all").read_all().to_pylist()
    assert [c["catalog_name"] for c in tree] == ["opportunity"]
    schemas = {s["db_schema_name"]: s["db_schema_tables"] for s in tree[0]["catalog_db_schemas"]}
    assert {"views", "dfe", "dwp"} <= set(schemas), schemas.keys()
    assert "opportunity_by_region" in {t["table_name"] for t in schemas["views"]}
    attainment = next(t for t in schemas["dfe"] if t["table_name"] == "attainment")
    assert attainment["table_type"] == "TABLE"
    columns = {c["column_name"]: c for c in attainment["table_columns"]}
    assert {"subject", "region", "attainment8"} <= set(columns)
    assert columns["region"]["xdbc_type_name"] == "text", columns["region"]
    with connect() as connection:
        schema = connection.adbc_get_table_schema("attainment", db_schema_filter="dfe", catalog_filter="opportunity")
        assert schema.metadata[b"agreement"] and schema.metadata[b"freshness"], schema.metadata
        # The driver does not hand remarks on in the tree; they are in the table's schema.
        assert b"uses: group_by, filter" in schema.field("region").metadata[b"ARROW:FLIGHT:SQL:REMARKS"], schema.field("region").metadata
        assert b"filter only by < and >= with 20, 30, 40" in schema.field("attainment8").metadata[b"ARROW:FLIGHT:SQL:REMARKS"]
        view = connection.adbc_get_table_schema("opportunity_by_region", db_schema_filter="views")
        assert view.metadata[b"title"] and view.metadata[b"unit"], view.metadata


def test_without_a_purpose_the_tree_shows_all_that_may_be_used_and_statements_say_what_is_missing():
    with connect(purpose=None) as connection:
        tree = connection.adbc_get_objects(depth="db_schemas").read_all().to_pylist()
        assert [c["catalog_name"] for c in tree] == ["healthy-life", "opportunity", "strong-economy"], tree
        with connection.cursor() as cursor:
            refused(lambda: cursor.execute(BY_REGION), "declares no purpose", "x-concordat-purpose")


def test_patterns_filter():
    with connect() as connection:
        tree = connection.adbc_get_objects(depth="tables", db_schema_filter="d%", table_name_filter="%ttain%").read_all().to_pylist()
        names = [t["table_name"] for c in tree for s in c["catalog_db_schemas"] for t in s["db_schema_tables"] or []]
        assert names == ["attainment"], tree
        assert connection.adbc_get_objects(depth="catalogs", catalog_filter="nothing").read_all().to_pylist() == []


def test_a_stranger_learns_nothing():
    for token in ("other_issuer", "expired", "nonsense"):
        with connect(token=token, autocommit=True) as connection:
            refused(lambda: connection.adbc_get_objects(depth="all").read_all(), "not valid")
            refused(lambda: connection.cursor().execute(BY_REGION), "not valid")
    with connect(token="visitor") as connection:
        tree = connection.adbc_get_objects(depth="all").read_all().to_pylist()
        assert [c["catalog_db_schemas"] for c in tree] == [[]], tree
        with connection.cursor() as cursor:
            refused(lambda: cursor.execute(BY_REGION), "no agreement in force")


def test_dbapi():
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(BY_REGION)
        assert [d[0] for d in cursor.description] == ["region", "persons", "withheld"]
        rows = cursor.fetchall()
        assert len(rows) >= 9 and all(len(row) == 3 for row in rows)
        cursor.execute("SELECT * FROM views.opportunity_by_region")
        assert cursor.fetch_arrow_table().num_rows == 2 * len(rows), "by region and free school meals"
        refused(lambda: cursor.execute("SELECT attainment8 FROM dfe.attainment"), "may not be used for output", "agreement")
        # The connection lives on.
        cursor.execute("SELECT count(*) FROM dfe.attainment")
        assert cursor.fetchone()[0] > 100


def test_parameters_are_typed_and_several_rows_ask_several_times():
    with connect() as connection, connection.cursor() as cursor:
        sql = "SELECT count(*) AS persons FROM dfe.attainment WHERE region = ?"
        cursor.execute(sql, ("London",))
        london = cursor.fetchone()[0]
        cursor.execute("SELECT count(*) AS persons FROM dfe.attainment WHERE region = 'London'")
        assert cursor.fetchone()[0] == london > 10
        cursor.execute("SELECT count(*) FROM dwp.claims WHERE conditionality = $1", ("searching for work",))
        assert cursor.fetchone()[0] > 0
        # An injection is a value like any other.
        cursor.execute(sql, ("x' OR region = 'London",))
        assert cursor.fetchone()[0] in (None, 0)
    for wrong in [(), ("London", "x"), (b"bytes",)]:
        # A statement that stays prepared keeps its values, so each is tried on its own.
        with connect() as connection, connection.cursor() as cursor:
            refused(lambda: cursor.execute(sql, wrong), "parameters")
    with connect() as connection, connection.cursor() as cursor:
        refused(lambda: cursor.execute("SELECT count(*) FROM dfe.attainment WHERE free_school_meals = ?", ("perhaps",)), "cannot be read as")
    with connect() as connection:
        handle = adbc_driver_manager.AdbcStatement(connection.adbc_connection)
        handle.set_sql_query(sql)
        handle.prepare()
        assert handle.get_parameter_schema() is not None
        handle.bind(*exported(pa.record_batch([["London", "South East", None]], names=["region"])))
        stream, _ = handle.execute_query()
        table = pa.RecordBatchReader._import_from_c(stream.address).read_all()
        assert table.num_rows == 3 and table["persons"][0].as_py() == london, table
        handle.close()


def exported(batch):
    array, schema = adbc_driver_manager.ArrowArrayHandle(), adbc_driver_manager.ArrowSchemaHandle()
    batch._export_to_c(array.address, schema.address)
    return array, schema


def test_each_offered_type_of_parameter():
    with connect() as connection, connection.cursor() as cursor:
        for value in (1, 1.5, True, "text", datetime.date(2024, 1, 2), decimal.Decimal("12.50")):
            cursor.execute("SELECT ? AS value", (value,))
            assert str(cursor.fetchone()[0]) not in ("", "None"), value


def test_a_session_carries_the_purpose():
    option = adbc_driver_flightsql.DatabaseOptions
    session = adbc_driver_flightsql.ConnectionOptions.OPTION_SESSION_OPTION_PREFIX.value
    with connect(purpose=None, **{option.WITH_COOKIE_MIDDLEWARE.value: "true"}) as connection:
        connection.adbc_connection.set_options(**{session + "purpose": PURPOSE})
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM dfe.attainment")
            assert cursor.fetchone()[0] > 100
        assert connection.adbc_connection.get_option(session + "purpose") == PURPOSE
        refused(lambda: connection.adbc_connection.set_options(**{session + "password": "x"}))
        connection.adbc_connection.set_options(**{session + "purpose": "health.prevention"})
        with connection.cursor() as cursor:
            refused(lambda: cursor.execute("SELECT count(*) FROM dfe.attainment"))
        connection.adbc_connection.set_options(**{"adbc.connection.catalog": "healthy-life"})
        assert connection.adbc_current_catalog == "healthy-life"


def test_the_status_of_each_cell_comes_on_request():
    header = adbc_driver_flightsql.DatabaseOptions.RPC_CALL_HEADER_PREFIX.value + "x-concordat-cells"
    with connect(**{header: "status"}) as connection, connection.cursor() as cursor:
        # As a statement, and with a parameter, as a prepared one.
        for sql, values in ((BY_REGION, None), (BY_REGION.replace("GROUP", "WHERE region <> ? GROUP"), ("London",))):
            cursor.execute(sql, values)
            assert [d[0] for d in cursor.description] == ["region", "persons", "persons_status", "withheld"], cursor.description
            rows = cursor.fetchall()
            withheld = [row for row in rows if row[1] is None]
            assert withheld and all(row[2].startswith("withheld: fewer than ") for row in withheld), rows
            told = [row for row in rows if row[1] is not None]
            assert told and all(row[2] == "told" and row[3] is None for row in told), rows
    with connect(autocommit=True, **{header: "all"}) as connection:
        refused(lambda: connection.cursor().execute(BY_REGION), "x-concordat-cells", "'status'")


def test_a_running_query_is_cancelled():
    # DWP's node is stopped by the suite, so the query waits.
    with connect() as connection, connection.cursor() as cursor:
        failure = []

        def run():
            try:
                cursor.execute("SELECT count(*) FROM dwp.claims")
                cursor.fetchall()
            except Exception as error:
                failure.append(str(error))

        thread = threading.Thread(target=run)
        thread.start()
        # Until the query is under way: cancelling what has not begun is not what is tried here.
        deadline = time.monotonic() + 20
        while not answers_begun() > WORLD["answers"]:
            assert time.monotonic() < deadline and thread.is_alive(), failure
            time.sleep(0.02)
        cancelled = time.monotonic()
        cursor.adbc_cancel()
        thread.join(15)
        assert not thread.is_alive() and failure, "the query went on"
        assert time.monotonic() - cancelled < 5, "cancelling took long"
