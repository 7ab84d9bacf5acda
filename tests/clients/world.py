"""The federation under test, as the suite states it in the environment variable CONCORDAT_WORLD (JSON)."""

import json
import os
import warnings

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi as dbapi
import pyarrow.flight as flight

WORLD = json.loads(os.environ["CONCORDAT_WORLD"])
PURPOSE = "opportunity.measure"

# A warning in every notebook is a defect.
warnings.simplefilter("error")


def options(token="token", purpose=PURPOSE, **more):
    """Database options of the ADBC driver for a caller of the world."""
    option = adbc_driver_flightsql.DatabaseOptions
    chosen = {
        option.TLS_ROOT_CERTS.value: WORLD["ca"],
        option.AUTHORIZATION_HEADER.value: f"Bearer {WORLD[token]}",
    }
    if purpose:
        chosen[option.RPC_CALL_HEADER_PREFIX.value + "x-concordat-purpose"] = purpose
    return chosen | more


def connect(autocommit=False, **changes):
    return dbapi.connect(WORLD["uri"], db_kwargs=options(**changes), autocommit=autocommit)


def flight_client():
    return flight.FlightClient(WORLD["uri"], tls_root_certs=WORLD["ca"])


def call(token="token", purpose=PURPOSE):
    """Headers of a pyarrow.flight call."""
    headers = [(b"authorization", f"Bearer {WORLD[token]}".encode())] if token else []
    if purpose:
        headers.append((b"x-concordat-purpose", purpose.encode()))
    return flight.FlightCallOptions(headers=headers, timeout=20)


def refused(work, *says):
    """Runs what must fail, and returns the text of the failure."""
    try:
        work()
    except Exception as error:  # each client has its own class
        text = str(error)
        for said in says:
            assert said in text, f"'{said}' is not in: {text}"
        return text
    raise AssertionError("answered, but should have been refused")
