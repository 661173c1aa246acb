"""What a certificate says of itself. Whether it is trusted is TLS's own business."""

from cryptography import x509


def not_after(pem: bytes) -> float:
    """Return when the first certificate in *pem* ends, in seconds since the epoch.

    Raises:
        ValueError: there is none in it.
    """
    return x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()
