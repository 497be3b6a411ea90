"""Who may ask for what: API keys, and which of them a request needs. Pure; any thread."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from enum import Enum, auto
from hashlib import sha256


class Access(Enum):
    """What an endpoint is: for everybody, for who uses models, for who manages the server."""

    OPEN = auto()
    INFERENCE = auto()
    MANAGEMENT = auto()


@dataclass(frozen=True, slots=True)
class Keys:
    """API keys, as their digests: these have one length, so that comparing them tells nothing of the keys'."""

    digests: tuple[bytes, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Keys:
        """The keys of a file: one in a line; empty lines and those that begin with ``#`` are none.

        Raises:
            ValueError: there is none, or one has characters that no header can hold.
        """
        digests = []
        for number, line in enumerate(text.splitlines(), 1):
            key = line.strip()
            if not key or key.startswith("#"):
                continue
            if not (key.isascii() and key.isprintable()) or " " in key:
                raise ValueError(f"line {number}: expected a key of visible ASCII characters")
            digests.append(_digest(key))
        if not digests:
            raise ValueError("expected a key in each line, found none")
        return cls(tuple(digests))

    def hold(self, key: str) -> bool:
        """Whether it is one of them. All are compared, each in constant time (``hmac.compare_digest``)."""
        digest = _digest(key)
        found = False
        for each in self.digests:
            found |= hmac.compare_digest(digest, each)
        return found


def _digest(key: str) -> bytes:
    return sha256(key.encode()).digest()


@dataclass(frozen=True, slots=True)
class Guard:
    """The keys of those who use models and of those who manage the server; None if there is no such file.

    Who manages may use models, too. If only the former have keys, these are needed for everything.
    """

    inference: Keys | None = None
    management: Keys | None = None

    def admits(self, access: Access, authorization: str | None) -> bool:
        """Whether a request may go on.

        Args:
            access: what it asks for.
            authorization: its header ``Authorization``: ``Bearer`` and a key (RFC 6750 §2.1); None if it has none.
        """
        needed = self._needed(access)
        if not needed:
            return True
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return False
        found = False
        for keys in needed:
            found |= keys.hold(key.strip())
        return found

    def _needed(self, access: Access) -> tuple[Keys, ...]:
        """The keys of which one is needed; none if anybody may ask."""
        both = tuple(keys for keys in (self.inference, self.management) if keys is not None)
        if access is Access.OPEN or (access is Access.INFERENCE and self.inference is None):
            return ()
        return (self.management,) if access is Access.MANAGEMENT and self.management is not None else both
