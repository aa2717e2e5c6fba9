"""Who may speak to a cluster: a private authority of the workspace and one certificate that all its parts bear."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from .. import processes
from ..storage import write_atomic
from ..workspace import Workspace

if TYPE_CHECKING:
    from distributed.security import Security


def security(workspace: Workspace, *, inline: bool = False, relative: bool = False) -> Security:
    """TLS both ways with the workspace's own certificate; made on first use.

    Parameters
    ----------
    inline : the certificates themselves instead of their files, for machines that do not see the workspace yet.
    relative : files named from the workspace's root, for processes that work there.
    """
    from distributed.security import Security

    folder = workspace.path("cluster", "tls")
    if not (folder / "node.pem").exists():
        with processes.lock(workspace, "cluster-tls"):
            if not (folder / "node.pem").exists():
                _make_authority(folder)
    shown = folder.relative_to(workspace.root) if relative else folder
    ca, node = ((folder / n).read_text() if inline else str(shown / n) for n in ("ca.pem", "node.pem"))
    return Security(tls_ca_file=ca, require_encryption=True, **{
        f"tls_{role}_{part}": node for role in ("client", "scheduler", "worker") for part in ("cert", "key")})


def _make_authority(folder: Path) -> None:
    """A private authority and one certificate signed by it; the authority's key is thrown away."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.UTC)
    begin, end = now - datetime.timedelta(days=1), now + datetime.timedelta(days=3650)
    authority_key, node_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = (x509.CertificateBuilder().subject_name(name("workbench authority")).issuer_name(name("workbench authority"))
                 .public_key(authority_key.public_key()).serial_number(x509.random_serial_number())
                 .not_valid_before(begin).not_valid_after(end)
                 .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(authority_key, hashes.SHA256()))
    node = (x509.CertificateBuilder().subject_name(name("workbench node")).issuer_name(authority.subject)
            .public_key(node_key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(begin).not_valid_after(end)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False).sign(authority_key, hashes.SHA256()))
    pem = serialization.Encoding.PEM
    key = node_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_atomic(folder / "ca.pem", authority.public_bytes(pem))
    write_atomic(folder / "node.pem", key + node.public_bytes(pem), mode=0o600)
