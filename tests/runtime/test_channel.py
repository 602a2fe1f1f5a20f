"""Messages between processes that share a key."""

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distdl.runtime import channel
from distdl.runtime.channel import HEADER, AuthenticationError, SecureSession, derive, pack, unpack


def connected(client_key: bytes, server_key: bytes) -> tuple[SecureSession, SecureSession]:
    """Both sides of a connection, before the proofs."""
    client, server = SecureSession(client_key, is_server=False), SecureSession(server_key, is_server=True)
    client.begin(server.number)
    server.begin(client.number)
    return client, server


def split(sealed: bytes) -> tuple[bytes, bytes]:
    return sealed[: HEADER.size], sealed[HEADER.size :]


@given(st.lists(st.binary(max_size=40)))
def test_fields_are_restored(fields: list[bytes]) -> None:
    assert unpack(pack(fields)) == fields


@given(st.binary(max_size=40))
def test_any_bytes_are_fields_or_refused(message: bytes) -> None:
    try:
        fields = unpack(message)
    except ValueError:
        return
    assert pack(fields) == message


def test_keys_depend_on_every_part_and_on_the_division_into_parts() -> None:
    keys = {derive(b"k", *parts) for parts in [("a",), ("b",), ("a", "b"), ("ab",), ("b", "a"), ("a", "b", "")]}
    assert len(keys) == 6
    assert derive(b"k", "a") != derive(b"l", "a")
    assert derive(b"k", "a") == derive(b"k", b"a")
    # printf '\0\0\0\001a\0\0\0\001b' | openssl dgst -sha256 -hmac k
    assert derive(b"k", "a", "b").hex() == "320484d5fda9a4ab3f5286551af2ff0ea6de51f2bcad5693031d0d3dfe4b7855"


def test_sides_with_the_same_key_accept_each_other() -> None:
    key = secrets.token_bytes(32)
    client, server = connected(key, key)
    server.check_proof(client.proof())
    client.check_proof(server.proof())
    for message in (b"", b"a", b"a" * 10_000):
        assert server.unseal(*split(client.seal(message))) == message
        assert client.unseal(*split(server.seal(message))) == message


def test_a_side_without_the_key_proves_nothing() -> None:
    client, server = connected(secrets.token_bytes(32), secrets.token_bytes(32))
    with pytest.raises(AuthenticationError):
        server.check_proof(client.proof())
    with pytest.raises(AuthenticationError):
        client.check_proof(server.proof())


def test_a_proof_cannot_be_sent_back_or_used_again() -> None:
    key = secrets.token_bytes(32)
    client, server = connected(key, key)
    with pytest.raises(AuthenticationError):
        server.check_proof(server.proof())
    with pytest.raises(AuthenticationError):
        connected(key, key)[1].check_proof(client.proof())


def test_altered_repeated_reordered_and_returned_messages_are_refused() -> None:
    key = secrets.token_bytes(32)

    def refused(change) -> None:
        client, server = connected(key, key)
        with pytest.raises(AuthenticationError, match="altered"):
            server.unseal(*split(change(client, server)))

    refused(lambda client, server: client.seal(b"set a 1")[:-1] + b"2")
    refused(lambda client, server: [client.seal(b"first"), client.seal(b"second")][1])
    refused(lambda client, server: server.seal(b"to the client"))

    client, server = connected(key, key)
    sealed = client.seal(b"once")
    server.unseal(*split(sealed))
    with pytest.raises(AuthenticationError, match="altered"):
        server.unseal(*split(sealed))


def test_lengths_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    client, _ = connected(b"k", b"k")
    monkeypatch.setattr(channel, "MAX_MESSAGE", 10)
    assert SecureSession.length(client.seal(b"0123456789")[: HEADER.size]) == 10
    with pytest.raises(ValueError, match="11 bytes is longer than 10"):
        client.seal(b"0123456789a")
    with pytest.raises(AuthenticationError, match="longer"):
        SecureSession.length(HEADER.pack(11, bytes(32)))
