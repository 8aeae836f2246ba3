"""Who is who in a local cluster: one certificate authority, a token for each user, a kubeconfig for each token.

Made with openssl, because Python's standard library reads certificates but does not make them.
"""

from __future__ import annotations

import base64
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

ADMIN: Final = "admin"
# User -> groups. Controllers have users of their own, so that RBAC and the audit log tell them apart.
USERS: Final[Mapping[str, str]] = {
    ADMIN: "system:masters",
    "system:kube-controller-manager": "",
    "system:kube-scheduler": "",
    "system:kube-proxy": "",
    "kuberay-operator": "system:masters",
    "coredns": "system:masters",
}
DAYS: Final = "3650"
KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True)
class Credentials:
    """The files of a cluster's credentials, all below one directory that only its owner can read."""

    directory: Path

    @property
    def authority(self) -> Path:
        """The certificate that clients trust."""
        return self.directory / "ca.crt"

    @property
    def tokens(self) -> Path:
        """The table that the API server reads: token, user, uid, groups."""
        return self.directory / "tokens.csv"

    def certificate(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of `name`."""
        return self.directory / f"{name}.crt", self.directory / f"{name}.key"

    def token(self, user: str) -> str:
        """The token of `user`."""
        rows = [row.split(",") for row in self.tokens.read_text(encoding="utf-8").splitlines()]
        return next(row[0] for row in rows if row[1] == user)

    def make(self, addresses: Sequence[str], nodes: Sequence[str]) -> None:
        """Everything that is not there yet: a cluster that is started again keeps its credentials."""
        if self.tokens.is_file():
            return
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._make_authority()
        names = ",".join([*(f"IP:{address}" for address in addresses), "DNS:localhost", "DNS:kubernetes.default.svc"])
        self.make_certificate("apiserver", "/CN=kube-apiserver", names)
        self.make_certificate("kubelet-client", "/O=system:masters/CN=kube-apiserver", "DNS:kube-apiserver")
        self.make_certificate("service-accounts", "/CN=service-accounts", "DNS:service-accounts")
        users = {**USERS, **{f"system:node:{node}": "system:nodes" for node in nodes}}
        rows = [f'{secrets.token_hex(16)},{user},{user},"{groups}"\n' for user, groups in users.items()]
        self.tokens.write_text("".join(rows), encoding="utf-8")

    def write_kubeconfig(self, path: Path, server: str, token: str) -> None:
        """A kubeconfig that needs no other file."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "local",
            "clusters": [{"name": "local", "cluster": {"server": server, **self._authority_data()}}],
            "users": [{"name": "local", "user": {"token": token}}],
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": "local"}}],
        }
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config), encoding="utf-8")

    def _authority_data(self) -> dict[str, str]:
        return {"certificate-authority-data": base64.b64encode(self.authority.read_bytes()).decode()}

    def _make_authority(self) -> None:
        certificate, key = self.certificate("ca")
        _openssl(
            "req", "-x509", *KEY, "-days", DAYS, "-subj", "/CN=local", "-keyout", str(key), "-out", str(certificate)
        )

    def make_certificate(self, name: str, subject: str, names: str) -> None:
        """Certificate and key of `name`, for server and client."""
        (certificate, key), (authority, authority_key) = self.certificate(name), self.certificate("ca")
        _openssl(
            *("req", "-x509", *KEY, "-days", DAYS, "-subj", subject, "-addext", f"subjectAltName={names}"),
            *("-addext", "basicConstraints=critical,CA:FALSE", "-CA", str(authority), "-CAkey", str(authority_key)),
            *("-keyout", str(key), "-out", str(certificate)),
        )


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)
