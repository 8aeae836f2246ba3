"""How each component of the control plane is called, and when it is ready. Everything that is a choice says why."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Final

from localcluster.credentials import ADMIN, Credentials
from localcluster.tools import program

LOOPBACK: Final = "127.0.0.1"
SERVICES: Final = "10.96.0.0/20"  # 4096 addresses: a thousand endpoints and their heads
PORTS: Final = ("etcd", "etcd-peer", "kube-apiserver", "kube-scheduler", "kuberay-metrics", "kuberay-health")
AUDIT_POLICY: Final = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
"""
ANSWER_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Setting:
    """What the calls of the components depend on."""

    directory: Path
    ports: Mapping[str, int]
    address: str = LOOPBACK
    """Where the API server listens."""
    services: str = SERVICES
    """The range of ClusterIPs."""

    @property
    def credentials(self) -> Credentials:
        """The files of keys and tokens."""
        return Credentials(self.directory / "credentials")

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{self.address}:{self.ports['kube-apiserver']}"

    @property
    def audit_log(self) -> Path:
        """One JSON object a line, one line a request that was answered."""
        return self.directory / "audit.log"

    def kubeconfig(self, user: str = ADMIN) -> Path:
        """The kubeconfig of `user`."""
        return self.directory / ("kubeconfig" if user == ADMIN else f"kubeconfig-{user.replace(':', '-')}")


@dataclass(frozen=True)
class Component:
    """One process of the control plane."""

    name: str
    command: Sequence[str]
    ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)


def etcd(of: Setting) -> Component:
    """Keeps nothing safe from a power cut, and is several times faster for it."""
    clients, peers = (f"http://{LOOPBACK}:{of.ports[name]}" for name in ("etcd", "etcd-peer"))
    flags = [
        f"--data-dir={of.directory / 'etcd'}",
        f"--listen-client-urls={clients}",
        f"--advertise-client-urls={clients}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]
    return Component("etcd", [str(program("etcd")), *flags], lambda: answers(f"{clients}/health"))


def kube_apiserver(of: Setting) -> Component:
    """With RBAC and an audit log; tokens instead of client certificates, which Python would have to make."""
    keys = of.credentials
    certificate, key = keys.certificate("apiserver")
    kubelet_certificate, kubelet_key = keys.certificate("kubelet-client")
    accounts, accounts_key = keys.certificate("service-accounts")
    policy = of.directory / "audit-policy.yaml"
    policy.write_text(AUDIT_POLICY, encoding="utf-8")
    flags = [
        f"--etcd-servers=http://{LOOPBACK}:{of.ports['etcd']}",
        f"--bind-address={of.address}",
        f"--secure-port={of.ports['kube-apiserver']}",
        f"--tls-cert-file={certificate}",
        f"--tls-private-key-file={key}",
        f"--token-auth-file={keys.tokens}",
        "--authorization-mode=Node,RBAC",
        # As on OpenShift: who sets blockOwnerDeletion needs the right to update the owner's finalizers.
        "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
        f"--service-cluster-ip-range={of.services}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={accounts}",
        f"--service-account-signing-key-file={accounts_key}",
        f"--kubelet-certificate-authority={keys.authority}",
        f"--kubelet-client-certificate={kubelet_certificate}",
        f"--kubelet-client-key={kubelet_key}",
        "--kubelet-preferred-address-types=InternalIP",
        "--allow-privileged=true",
        f"--audit-log-path={of.audit_log}",
        "--audit-log-maxsize=10000",  # MB; at 100, the default, it begins a new file, and what tests count is gone
        f"--audit-policy-file={policy}",
        *_advertised(of.address),
    ]
    return Component("kube-apiserver", [str(program("kube-apiserver")), *flags], lambda: exists(of, "/readyz"))


def _advertised(address: str) -> list[str]:
    """Pods reach the API server at its address; a loopback address is refused as an endpoint, and no pod needs one."""
    return ["--endpoint-reconciler-type=none"] if address == LOOPBACK else [f"--advertise-address={address}"]


def kube_controller_manager(of: Setting) -> Component:
    """Collects owned objects, makes service accounts, fills EndpointSlices, … Ready when it has done its first work."""
    keys = of.credentials
    flags = [
        f"--kubeconfig={of.kubeconfig('system:kube-controller-manager')}",
        f"--service-account-private-key-file={keys.certificate('service-accounts')[1]}",
        f"--root-ca-file={keys.authority}",
        "--use-service-account-credentials=true",
        "--leader-elect=false",
        "--secure-port=0",
    ]
    account, authority = (
        f"/api/v1/namespaces/default/{path}" for path in ("serviceaccounts/default", "configmaps/kube-root-ca.crt")
    )
    return Component(
        "kube-controller-manager",
        [str(program("kube-controller-manager")), *flags],
        lambda: exists(of, account) and exists(of, authority),
    )


def kube_scheduler(of: Setting) -> Component:
    """Puts pods on nodes."""
    port = of.ports["kube-scheduler"]
    flags = [
        f"--kubeconfig={of.kubeconfig('system:kube-scheduler')}",
        "--leader-elect=false",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={port}",
    ]
    ready = lambda: answers(f"https://{LOOPBACK}:{port}/readyz", context=_trusting())  # noqa: E731
    return Component("kube-scheduler", [str(program("kube-scheduler")), *flags], ready)


def ray_operator(of: Setting) -> Component:
    """KubeRay outside of the cluster: it asks Ray's dashboards through the API server."""
    health = f"{LOOPBACK}:{of.ports['kuberay-health']}"
    flags = [
        "-enable-leader-election=false",
        "-use-kubernetes-proxy",
        f"-metrics-addr={LOOPBACK}:{of.ports['kuberay-metrics']}",
        f"-health-probe-bind-address={health}",
    ]
    return Component(
        "ray-operator",
        [str(program("ray-operator")), *flags],
        lambda: answers(f"http://{health}/readyz"),
        {"KUBECONFIG": str(of.kubeconfig("kuberay-operator"))},
    )


# In the order of their start.
COMPONENTS: Final[Mapping[str, Callable[[Setting], Component]]] = {
    "etcd": etcd,
    "kube-apiserver": kube_apiserver,
    "kube-controller-manager": kube_controller_manager,
    "kube-scheduler": kube_scheduler,
    "ray-operator": ray_operator,
}


def exists(of: Setting, path: str) -> bool:
    """Whether the API server answers 200 to the administrator's GET of `path`."""
    context = ssl.create_default_context(cafile=str(of.credentials.authority))
    return answers(of.server + path, context=context, token=of.credentials.token(ADMIN))


def _trusting() -> ssl.SSLContext:
    """For a health check of our own process at our own address: its certificate is made at each start."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def answers(url: str, *, context: ssl.SSLContext | None = None, token: str = "") -> bool:
    """Whether a GET of `url` is answered with 200."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})  # noqa: S310
    # No proxy of the environment stands between this machine and itself.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(request, timeout=ANSWER_SECONDS) as reply:
            return int(reply.status) == HTTPStatus.OK
    except (urllib.error.URLError, OSError):
        return False
