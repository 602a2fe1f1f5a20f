"""Authenticated messages between processes that share a key, over TCP.

Each side sends a random number. The session key is derived from the job's key and both numbers; each side proves that
it has derived it, and every message carries a code with its direction and number (HMAC-SHA256, RFC 2104). A process
without the key can neither send nor alter a message, nor repeat one. Messages are not encrypted.
"""

import hmac
import secrets
import struct
from collections.abc import Sequence

KEY_BYTES = 32
MAX_MESSAGE = 64 * 2**20
"""Bytes of the longest message that is accepted."""
LABEL = b"distdl store 1"
HEADER = struct.Struct("!I32s")
"""Length of a message and its code."""
_COUNT = struct.Struct("!I")


class AuthenticationError(ConnectionError):
    """The other side does not have the key, or a message was altered."""


def derive(key: bytes, *parts: str | bytes) -> bytes:
    """Return a key that only processes with `key` and the same parts can derive."""
    encoded = [part.encode() if isinstance(part, str) else part for part in parts]
    return hmac.digest(key, pack(encoded), "sha256")


def pack(fields: Sequence[bytes]) -> bytes:
    """Join fields to one message, from which `unpack` restores them."""
    return b"".join(_COUNT.pack(len(field)) + field for field in fields)


def unpack(message: bytes) -> list[bytes]:
    """Return the fields of a message.

    Raises:
        ValueError: if the message was not made by `pack`.
    """
    fields, start = [], 0
    while start < len(message):
        if start + _COUNT.size > len(message):
            raise ValueError("a field of a message is incomplete")
        (length,) = _COUNT.unpack_from(message, start)
        start += _COUNT.size
        if start + length > len(message):
            raise ValueError("a field of a message is incomplete")
        fields.append(message[start : start + length])
        start += length
    return fields


class SecureSession:
    """One side of a connection: proofs of the key, and the codes of messages.

    Args:
        key: shared key of the job, `KEY_BYTES` long.
        is_server: whether this side has accepted the connection.
    """

    def __init__(self, key: bytes, *, is_server: bool) -> None:
        self._key, self._is_server = key, is_server
        self.number = secrets.token_bytes(KEY_BYTES)
        self._sent = self._received = 0

    def begin(self, other_number: bytes) -> None:
        """Derive the session key from both random numbers."""
        numbers = (self.number, other_number) if self._is_server else (other_number, self.number)
        self._key = derive(self._key, LABEL, *numbers)

    def proof(self) -> bytes:
        """Return what this side sends to prove that it has the key."""
        return derive(self._key, _side(self._is_server))

    def check_proof(self, proof: bytes) -> None:
        """Check what the other side has sent.

        Raises:
            AuthenticationError: if it does not have the key.
        """
        if not hmac.compare_digest(proof, derive(self._key, _side(not self._is_server))):
            raise AuthenticationError("the other side does not have the key of this job")

    def seal(self, message: bytes) -> bytes:
        """Return a message with its header.

        Raises:
            ValueError: if the message is longer than `MAX_MESSAGE`.
        """
        if len(message) > MAX_MESSAGE:
            raise ValueError(f"a message of {len(message)} bytes is longer than {MAX_MESSAGE}")
        code = self._code(message, self._is_server, self._sent)
        self._sent += 1
        return HEADER.pack(len(message), code) + message

    @staticmethod
    def length(header: bytes) -> int:
        """Return the length of the message that follows a header.

        Raises:
            AuthenticationError: if it is longer than `MAX_MESSAGE`, which no other side with the key sends.
        """
        length = HEADER.unpack(header)[0]
        if length > MAX_MESSAGE:
            raise AuthenticationError(f"a message of {length} bytes is longer than {MAX_MESSAGE}")
        return length

    def unseal(self, header: bytes, message: bytes) -> bytes:
        """Return a message that the other side has sealed.

        Raises:
            AuthenticationError: if it was altered, repeated or left out.
        """
        code = self._code(message, not self._is_server, self._received)
        self._received += 1
        if not hmac.compare_digest(HEADER.unpack(header)[1], code):
            raise AuthenticationError("a message was altered on its way")
        return message

    def _code(self, message: bytes, from_server: bool, number: int) -> bytes:
        return hmac.digest(self._key, _side(from_server) + number.to_bytes(8, "big") + message, "sha256")


def _side(is_server: bool) -> bytes:
    return b"server" if is_server else b"client"
