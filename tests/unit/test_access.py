"""API keys, and which of them a request needs."""

from __future__ import annotations

import pytest

from tornado_ovms.core.access import Access, Guard, Keys

INFERENCE, MANAGEMENT = Keys.parse("user-1\nuser-2\n"), Keys.parse("admin")


def test_a_file_of_keys() -> None:
    """Comments and empty lines are none; spaces around a key are not its."""
    keys = Keys.parse("# ours\n\n  one \ntwo\r\n")
    assert [keys.hold(key) for key in ("one", "two", "# ours", "", "on", "one ", "onetwo")] == [
        True,
        True,
        *[False] * 5,
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a key in each line, found none"),
        ("# nothing\n\n", "expected a key in each line, found none"),
        ("one\ntwo words", "line 2: expected a key of visible ASCII characters"),
        ("schlüssel", "line 1: expected a key of visible ASCII characters"),
        ("a\tb", "line 1: expected a key of visible ASCII characters"),
    ],
)
def test_what_is_no_file_of_keys(text: str, message: str) -> None:
    """The message has no part of a key."""
    with pytest.raises(ValueError, match=f"^{message}$"):
        Keys.parse(text)


@pytest.mark.parametrize(
    ("guard", "admitted"),
    [
        (Guard(), {Access.INFERENCE: "nobody user-1 user-2 admin", Access.MANAGEMENT: "nobody user-1 user-2 admin"}),
        (Guard(INFERENCE), {Access.INFERENCE: "user-1 user-2", Access.MANAGEMENT: "user-1 user-2"}),
        (Guard(None, MANAGEMENT), {Access.INFERENCE: "nobody user-1 user-2 admin", Access.MANAGEMENT: "admin"}),
        (Guard(INFERENCE, MANAGEMENT), {Access.INFERENCE: "user-1 user-2 admin", Access.MANAGEMENT: "admin"}),
    ],
)
def test_who_may_ask_for_what(guard: Guard, admitted: dict[Access, str]) -> None:
    """Health is told to everybody."""
    for who in ("nobody", "user-1", "user-2", "admin"):
        authorization = None if who == "nobody" else f"Bearer {who}"
        assert guard.admits(Access.OPEN, authorization)
        for access, names in admitted.items():
            assert guard.admits(access, authorization) == (who in names.split())


@pytest.mark.parametrize(
    ("authorization", "is_admitted"),
    [
        ("Bearer admin", True), ("bearer admin", True), ("BEARER  admin ", True),
        ("admin", False), ("Basic admin", False), ("Bearer", False), ("Bearer ", False), ("", False), ("Beareradmin", False),
        ("Bearer admin user-1", False), ("Bearer ädmin", False),
    ],
)  # fmt: skip
def test_the_header(authorization: str, *, is_admitted: bool) -> None:
    """RFC 6750 §2.1; the name of the scheme in any letters (RFC 9110 §11.1)."""
    assert Guard(None, MANAGEMENT).admits(Access.MANAGEMENT, authorization) is is_admitted
