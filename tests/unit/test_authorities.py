# SPDX-License-Identifier: Apache-2.0
"""Authorities: what is said of a CA is what a real handshake with the first boot's own context makes of it (F53)."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from guest_agent.api_client import tls as of_the_agent
from heat_workflow.authorities import faults_of_ca, faults_of_server
from heat_workflow.resources.first_boot import tls as of_the_first_boot

NOW = datetime.datetime.now(datetime.timezone.utc)
YEAR = datetime.timedelta(days=365)
WELL, STRICT, REFUSED = "well", "refused by strict clients", "refused"
SIGNS = {name: name == "key_cert_sign" for name in ("digital_signature", "content_commitment", "key_encipherment")} | {
    **dict.fromkeys(("data_encipherment", "key_agreement", "crl_sign", "encipher_only", "decipher_only"), False),
    "key_cert_sign": True,
}


@dataclass
class Made:
    """A CA and a certificate of it for 127.0.0.1, in files."""

    ca: bytes
    chain: bytes
    directory: Path

    def handshake(self, *, strict: bool) -> str:
        """How a client with that CA ends a handshake: "" for well."""
        (self.directory / "chain.pem").write_bytes(self.chain)
        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        serving.set_ciphers("DEFAULT:@SECLEVEL=0")
        serving.load_cert_chain(self.directory / "chain.pem", self.directory / "key.pem")
        asking = of_the_first_boot({"ca_pem": self.ca.decode()})
        if strict:
            asking.verify_flags |= ssl.VERIFY_X509_STRICT
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = serving.wrap_bio(to_server, to_client, server_side=True)
        client = asking.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
        for _ in range(4):
            for side in (client, server):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                except ssl.SSLError as error:
                    return error.reason or "refused"
        return ""


def make(directory: Path, **wish: Any) -> Made:
    """``wish`` says what is odd about the CA, or with ``leaf_`` in front about the certificate."""
    ca_key: Any = wish.get("key") or ec.generate_private_key(ec.SECP256R1())
    leaf_key: Any = wish.get("leaf_key") or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "private ca")])
    above = wish.get("signed_by", name)
    signer = ec.generate_private_key(ec.SECP256R1()) if "signed_by" in wish else ca_key
    ca = _builder(name, above, ca_key, wish.get("since", -YEAR), wish.get("until", YEAR))
    if wish.get("basic", True) is not None:
        basic = x509.BasicConstraints(ca=wish.get("basic", True), path_length=None)
        ca = ca.add_extension(basic, critical=wish.get("critical", True))
    if wish.get("usage", True) is not None:
        usage = {**SIGNS, "key_cert_sign": wish.get("usage", True), "crl_sign": True}
        ca = ca.add_extension(x509.KeyUsage(**usage), critical=True)
    if wish.get("identifier", True):
        ca = ca.add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
    leaf_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "api")])
    leaf = _builder(leaf_name, name, leaf_key, wish.get("leaf_since", -YEAR), wish.get("leaf_until", YEAR))
    if wish.get("leaf_names", True):
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        leaf = leaf.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    if wish.get("leaf_authority", True):
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
        leaf = leaf.add_extension(authority, critical=False)
    pem = serialization.Encoding.PEM
    (directory / "key.pem").write_bytes(
        leaf_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    ca_pem = ca.sign(signer, hashes.SHA256()).public_bytes(pem)
    leaf_pem = leaf.sign(ca_key, hashes.SHA256()).public_bytes(pem)
    if wish.get("leaf_sha1"):
        leaf_pem = _signed_with_sha1(directory, ca_pem, ca_key)
    return Made(ca_pem, leaf_pem, directory)


def _signed_with_sha1(directory: Path, ca: bytes, ca_key: Any) -> bytes:
    """The library makes none any more."""
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (directory / "ca.pem").write_bytes(ca)
    (directory / "ca.key").write_bytes(ca_key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    (directory / "names").write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
    sign = "openssl x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -sha1 -days 30 -extfile names"
    command = f"openssl req -new -key key.pem -subj /CN=api | {sign}"
    return subprocess.run(command, shell=True, cwd=directory, check=True, capture_output=True).stdout


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Any, since: datetime.timedelta, until: datetime.timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + since)
        .not_valid_after(NOW + until)
    )


SMALL = rsa.generate_private_key(65537, 1024)
ODD: list[tuple[str, dict[str, Any], str, str]] = [
    ("all as it should be", {}, WELL, ""),
    ("plain, as openssl req -x509 makes it", {"usage": None}, STRICT, "no keyUsage"),
    ("no identifier", {"identifier": False}, STRICT, "no subjectKeyIdentifier"),
    ("constraints not critical", {"critical": False}, STRICT, "not critical"),
    ("a certificate that names no authority key", {"leaf_authority": False}, STRICT, "no authorityKeyIdentifier"),
    ("no CA", {"basic": False}, REFUSED, "it is no CA"),
    ("may not sign certificates", {"usage": False}, REFUSED, "keyCertSign"),
    ("expired", {"since": -2 * YEAR, "until": -YEAR}, REFUSED, "it has expired at"),
    ("not valid yet", {"since": YEAR, "until": 2 * YEAR}, REFUSED, "it is valid only from"),
    ("small key", {"key": SMALL}, REFUSED, "1024 bits, guests ask for 2048"),
    ("intermediate alone", {"signed_by": x509.Name([])}, REFUSED, "it holds no root"),
    ("a certificate with a small key", {"leaf_key": SMALL}, REFUSED, "1024 bits"),
    ("a certificate signed with SHA-1", {"leaf_sha1": True}, REFUSED, "SHA-1"),
    ("a certificate that has expired", {"leaf_since": -2 * YEAR, "leaf_until": -YEAR}, REFUSED, "it has expired"),
    ("a certificate without a name", {"leaf_names": False}, REFUSED, "no subjectAltName"),
]


@pytest.mark.parametrize(("wish", "verdict", "words"), [row[1:] for row in ODD], ids=[row[0] for row in ODD])
def test_f53_what_is_said_of_a_ca_is_what_guests_make_of_it(
    wish: dict[str, Any], verdict: str, words: str, tmp_path: Path
) -> None:
    made = make(tmp_path, **wish)
    said = faults_of_ca(made.ca, NOW) + faults_of_server(made.chain, NOW)
    assert bool(said) == (verdict != WELL), said
    assert words in "; ".join(said)
    assert any("strict clients" not in fault for fault in said) == (verdict == REFUSED), said
    assert (made.handshake(strict=False) != "") == (verdict == REFUSED)
    assert (made.handshake(strict=True) != "") == (verdict != WELL)


def test_f53_a_file_without_a_certificate_is_told() -> None:
    for pem in (b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"):
        assert "no certificate that can be read" in faults_of_ca(pem, NOW)[0]
        assert "no certificate that can be read" in faults_of_server(pem, NOW)[0]


def test_f53_the_first_boot_and_the_agent_ask_for_the_same() -> None:
    agent, first = of_the_agent(), of_the_first_boot({"ca_pem": ""})
    for setting in ("verify_flags", "verify_mode", "check_hostname", "minimum_version", "maximum_version", "options"):
        assert getattr(agent, setting) == getattr(first, setting), setting
