# SPDX-License-Identifier: Apache-2.0
"""Authorities: what guests would not like about a CA or a certificate, said before a machine has booted in vain.

Guests check with OpenSSL at its usual security level (2, which is 112 bits) and without VERIFY_X509_STRICT. Machines
whose user_data is of an earlier release check their first download as their Python does by itself: from 3.13 on that is
strict.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

_BITS_LEAST, _BITS_LEAST_EC = 2048, 224
Kind = TypeVar("Kind", bound=x509.ExtensionType)
_STRICT = "strict clients, such as Python 3.13 with user_data of an earlier release, refuse it"


def faults_of_ca(pem: bytes, now: datetime.datetime) -> list[str]:
    """What keeps guests from trusting the certificates in a CA file, in words; nothing when all is well."""
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        return [f"it holds no certificate that can be read: {error}"]
    words = [f"{_name(each)}: {fault}" for each in found for fault in (*_of_any(each, now), *_of_ca(each))]
    if not any(each.subject == each.issuer for each in found):
        words.append("it holds no root (no certificate signed by itself): guests trust no intermediate one alone")
    return words


def faults_of_server(pem: bytes, now: datetime.datetime) -> list[str]:
    """The same for the chain that a server shows, its own certificate first."""
    try:
        leaf, *others = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        return [f"it holds no certificate that can be read: {error}"]
    faults = [f"{_name(leaf)}: {fault}" for fault in (*_of_any(leaf, now), *_of_leaf(leaf))]
    return faults + [f"{_name(each)}: {fault}" for each in others for fault in (*_of_any(each, now), *_of_ca(each))]


def _of_any(certificate: x509.Certificate, now: datetime.datetime) -> Iterator[str]:
    if now > certificate.not_valid_after_utc:
        yield f"it has expired at {certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
    if now < certificate.not_valid_before_utc:
        yield f"it is valid only from {certificate.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ} on"
    key = certificate.public_key()
    least = _BITS_LEAST_EC if isinstance(key, ec.EllipticCurvePublicKey) else _BITS_LEAST
    if isinstance(key, (rsa.RSAPublicKey, dsa.DSAPublicKey, ec.EllipticCurvePublicKey)) and key.key_size < least:
        yield f"its key has {key.key_size} bits, guests ask for {least}"
    if certificate.subject != certificate.issuer and _is_weak(certificate):
        yield "it is signed with SHA-1 or MD5"


def _is_weak(certificate: x509.Certificate) -> bool:
    try:
        return isinstance(certificate.signature_hash_algorithm, (hashes.SHA1, hashes.MD5))
    except UnsupportedAlgorithm:
        return False


def _of_ca(certificate: x509.Certificate) -> Iterator[str]:
    basic = _find(certificate, x509.BasicConstraints)
    if basic is None:
        yield f"it has no basicConstraints: {_STRICT}"
    elif not basic.value.ca:
        yield "it is no CA (basicConstraints says CA:FALSE)"
    elif not basic.critical:
        yield f"its basicConstraints are not critical: {_STRICT}"
    usage = _find(certificate, x509.KeyUsage)
    if usage is None:
        yield f"it has no keyUsage: {_STRICT}"
    elif not usage.value.key_cert_sign:
        yield "its keyUsage does not hold keyCertSign"
    if _find(certificate, x509.SubjectKeyIdentifier) is None:
        yield f"it has no subjectKeyIdentifier: {_STRICT}"


def _of_leaf(certificate: x509.Certificate) -> Iterator[str]:
    if _find(certificate, x509.SubjectAlternativeName) is None:
        yield "it has no subjectAltName: guests find no host name in it"
    if _find(certificate, x509.AuthorityKeyIdentifier) is None and certificate.subject != certificate.issuer:
        yield f"it has no authorityKeyIdentifier: {_STRICT}"


def _find(certificate: x509.Certificate, kind: type[Kind]) -> x509.Extension[Kind] | None:
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or "a certificate without a name"
