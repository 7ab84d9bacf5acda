"""pyarrow.flight as somebody who should not get anything: forged, used, lapsed and other callers' tickets; every RPC without a token."""

import pyarrow.flight as flight

from frames import statement
from world import call, flight_client, refused

SQL = "SELECT count(*) AS persons FROM dfe.attainment"


def announced(client, token="token", **how):
    return client.get_flight_info(flight.FlightDescriptor.for_command(statement(SQL)), call(token, **how)).endpoints[0].ticket


def test_a_ticket_is_good_once_for_its_caller_and_purpose():
    with flight_client() as client:
        ticket = announced(client)
        for token in ("colleague", "other_roles"):
            refused(lambda: client.do_get(ticket, call(token)).read_all(), "unknown, used, expired or another caller's")
        narrower = call(purpose="opportunity.measure.region")
        refused(lambda: client.do_get(ticket, narrower).read_all(), "unknown, used, expired or another caller's")
        refused(lambda: client.do_get(ticket, call(None)).read_all(), "no bearer token")
        assert client.do_get(ticket, call()).read_all().num_rows == 1
        refused(lambda: client.do_get(ticket, call()).read_all(), "unknown, used, expired or another caller's")


def test_a_forged_ticket_tells_nothing():
    with flight_client() as client:
        texts = set()
        good = announced(client).ticket
        for position in range(len(good)):
            forged = bytearray(good)
            forged[position] ^= 0x41
            texts.add(refused(lambda: client.do_get(flight.Ticket(bytes(forged)), call()).read_all()).split("gRPC client debug")[0])
        for nonsense in (b"", b"x", b"\0" * 64, b"\xff" * 5000, good + b"x", good[:-1], SQL.encode()):
            texts.add(refused(lambda: client.do_get(flight.Ticket(nonsense), call()).read_all()).split("gRPC client debug")[0])
        assert not any("attainment" in text or "panic" in text for text in texts), texts
        # None of them used the good one up.
        assert client.do_get(flight.Ticket(good), call()).read_all().num_rows == 1


def test_cancelling_is_for_the_owner():
    with flight_client() as client:
        descriptor = flight.FlightDescriptor.for_command(statement(SQL))
        info = client.get_flight_info(descriptor, call())
        request = bytes([0x0A]) + varint(len(info.serialize())) + info.serialize()
        stolen = list(client.do_action(flight.Action("CancelFlightInfo", request), call("colleague")))
        assert stolen[0].body.to_pybytes() == bytes([8, 3]), "not cancellable"
        own = list(client.do_action(flight.Action("CancelFlightInfo", request), call()))
        assert own[0].body.to_pybytes() == bytes([8, 1]), "cancelled"
        refused(lambda: client.do_get(info.endpoints[0].ticket, call()).read_all(), "unknown, used")


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def test_every_call_without_a_token_ends_alike():
    with flight_client() as client:
        nobody = call(None)
        descriptor = flight.FlightDescriptor.for_command(statement(SQL))
        calls = [
            lambda: list(client.list_flights(options=nobody)),
            lambda: client.get_flight_info(descriptor, nobody),
            lambda: client.get_flight_info(flight.FlightDescriptor.for_command(b"nonsense"), nobody),
            lambda: client.get_flight_info(flight.FlightDescriptor.for_path("x"), nobody),
            lambda: client.get_schema(descriptor, nobody),
            lambda: client.do_get(flight.Ticket(b"x"), nobody).read_all(),
            lambda: client.list_actions(nobody),
            lambda: list(client.do_action(flight.Action("CreatePreparedStatement", b"x"), nobody)),
            lambda: list(client.do_action(flight.Action("nothing", b""), nobody)),
        ]
        texts = {refused(c).split(".")[0].split("(")[0] for c in calls}
        assert len(texts) == 1 and "no bearer token" in texts.pop(), texts


def test_what_is_not_offered_says_so():
    with flight_client() as client:
        for work in (
            lambda: list(client.list_flights(options=call())),
            lambda: list(client.do_action(flight.Action("DropEverything", b""), call())),
        ):
            refused(work, "is not offered")
        actions = {action.type for action in client.list_actions(call())}
        assert "CancelFlightInfo" in actions and "BeginSavepoint" not in actions, actions
