"""TLS for the signalling server: browsers give the camera only to secure contexts."""

import contextlib
import datetime
import ipaddress
import os
import socket
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mien.protocol.errors import MienError

VALID_DAYS = 30


@dataclass(frozen=True, slots=True)
class SelfSigned:
    """A certificate for development, and its key, both PEM."""

    certificate: bytes
    key: bytes
    sha256: str  # the certificate's fingerprint, as browsers show it


def make_self_signed(hosts: tuple[str, ...] = ()) -> SelfSigned:
    """Return a new certificate for this machine's name, localhost, 127.0.0.1, ::1 and `hosts`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mien development server")])
    names = dict.fromkeys(["localhost", "127.0.0.1", "::1", socket.gethostname(), *hosts])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName([_alternative(n) for n in names if n]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    digits = certificate.fingerprint(hashes.SHA256()).hex(":").upper()
    return SelfSigned(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        digits,
    )


def context_of(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a server's context. Raises `MienError` where the files are not a certificate and its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise MienError(
            f"cannot use {certificate} with {key}: {error}. Give --cert and --key as PEM files that belong together"
        ) from None
    return context


def context_of_self_signed(made: SelfSigned) -> ssl.SSLContext:
    """Return a server's context. The key touches the disk only while OpenSSL reads it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    handle, path = tempfile.mkstemp(prefix="mien-", suffix=".pem")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(made.key + made.certificate)
        context.load_cert_chain(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    return context


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name.encode("idna").decode("ascii"))
