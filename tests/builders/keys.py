"""A key pair of the Coinbase Developer Platform, made for a test."""

from __future__ import annotations

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from config.credentials import CoinbaseKey, Secret
from config.credentials.keys import coinbase_key

NAME = "11111111-2222-4333-8444-555555555555"


def made_key() -> CoinbaseKey:
    private = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return coinbase_key(Secret(NAME), Secret(private.decode()), "made for the test")
