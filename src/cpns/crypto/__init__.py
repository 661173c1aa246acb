"""The only door to the crypto library: `Secret`, the primitives, and every derivation of the protocol.

Nothing here draws randomness, but for the encapsulation of ML-KEM, whose library draws its own.
"""
