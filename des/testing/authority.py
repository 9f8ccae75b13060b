"""Certificates for tests of TLS."""

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HERE: Final = x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")
"""This machine's names."""


class Authority:
    """An authority of its own, for one test: nobody else trusts it."""

    def __init__(self, folder: Path, name: str) -> None:
        """Make key and certificate; the latter lies in `path`."""
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.cert = self.sign(name, self.key.public_key(), issuer=None, names=[], authority=True)
        self.path = folder / f"{name}.ca.pem"
        self.path.write_bytes(self.cert.public_bytes(serialization.Encoding.PEM))

    def sign(
        self,
        name: str,
        public: ec.EllipticCurvePublicKey,
        *,
        issuer: x509.Name | None,
        names: Sequence[x509.GeneralName],
        authority: bool = False,
    ) -> x509.Certificate:
        """Return a certificate that is good from an hour ago for two hours."""
        now = datetime.datetime.now(datetime.UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer or subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if names:
            made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return made.sign(self.key, hashes.SHA256())

    def issue(self, folder: Path, name: str, *names: x509.GeneralName) -> tuple[Path, Path]:
        """Write `NAME.pem` and `NAME.key`, each in one step, and return where they are."""
        key = ec.generate_private_key(ec.SECP256R1())
        cert = self.sign(name, key.public_key(), issuer=self.cert.subject, names=list(names))
        paths = folder / f"{name}.pem", folder / f"{name}.key"
        for path, raw in zip(
            paths,
            (
                cert.public_bytes(serialization.Encoding.PEM),
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                ),
            ),
            strict=True,
        ):
            beside = path.with_suffix(".new")
            beside.write_bytes(raw)
            beside.replace(path)
        return paths
