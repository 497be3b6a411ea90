"""Bodies that nobody should send: every one gets a JSON error, and the server goes on."""

from __future__ import annotations

import contextlib
import http.client
import json
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import many

if TYPE_CHECKING:
    from tests.functional.servers import Server

EXAMPLES = 10_000

numbers = st.one_of(st.integers(), st.floats(), st.just(0), st.sampled_from([1e400, -(2**70), 10**30]))
documents = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=8), st.just({"b64": "!"}), st.just({"b64": "AAAA"})),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(["b", "x", "b64", "instances", "inputs"]), inner,
        max_size=3)
    ),
    max_leaves=12,
)  # fmt: skip
requests = st.one_of(
    st.fixed_dictionaries({"instances": documents}),
    st.fixed_dictionaries({"inputs": documents}),
    documents,
).map(lambda document: json.dumps(document).encode())
garbage = st.one_of(
    st.binary(max_size=200),
    requests,
    st.tuples(requests, st.integers(0, 50), st.binary(max_size=3)).map(
        lambda t: t[0][: t[1]] + t[2] + t[0][t[1] + 1 :]
    ),
)

# What the reference answers with 500 although the client is to blame; here only for encoded values and depth.
CLIENT_S_FAULT = {
    "Functionality not implemented",
    "JSON nesting depth exceeds the allowed limit",
    "Image parsing failed",
}


def refuse(word: str) -> None:
    """NaN and the like are no JSON."""
    raise ValueError(word)


def test_garbage_gets_a_json_error(server: Server) -> None:
    """10,000 bodies, on one connection: never a hang, never a surprise; what is valid by chance is answered."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)

    @many(EXAMPLES)
    @given(garbage, st.sampled_from(["dummy", "any"]))
    def send(body: bytes, model: str) -> None:
        connection.request("POST", f"/v1/models/{model}:predict", body)
        answer = connection.getresponse()
        text = answer.read()
        document = json.loads(text, parse_constant=refuse)
        if answer.status != 200:
            assert list(document) == ["error"], text
            sentence = document["error"].partition(" - ")[0]
            assert 400 <= answer.status < 500 or sentence in CLIENT_S_FAULT, text

    with contextlib.closing(connection):
        send()
    assert "Unforeseen" not in server.said()
