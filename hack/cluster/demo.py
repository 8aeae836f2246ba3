"""What a newcomer sees: the chart on the cluster of `make cluster`, an endpoint, a question and its answer.

make demo            # again: upgrades the chart, keeps the endpoint, asks again
make cluster-down    # removes all of it
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from helm import VERSIONS, binary
from localcluster import tools
from localcluster.kubectl import Kubectl
from localcluster.say import say, step

ROOT = Path(__file__).parents[2]
ENDPOINT = ROOT / "tests" / "cluster" / "endpoint.yaml"
NAME = "smollm2"
QUESTION = "What is the capital of France?"
READY_SECONDS = 900
NEXT = """\
export KUBECONFIG={kubeconfig}
export PATH=$PWD/.venv/bin:{programs}:$PATH
kubectl get sgl
kubectl describe sgl {name}
kubectl port-forward service/{name} 8000:80 & sleep 3; curl http://localhost:8000/v1/models
kubectl patch sgl {name} --type merge --patch '{{"spec": {{"restartToken": "again"}}}}'; kubectl get sgl --watch
"""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kubeconfig", type=Path, default=tools.cache() / "run" / "kubeconfig", help="of the cluster")
    given = parser.parse_args()
    kubectl = Kubectl(given.kubeconfig)
    with step("operator installed by its chart"):
        install(given.kubeconfig)
    with step("endpoint ready"):
        kubectl("apply", "--filename", str(ENDPOINT))
        wait = ("wait", "--for=condition=Ready", f"sglangendpoint/{NAME}", f"--timeout={READY_SECONDS}s")
        kubectl(*wait, seconds=READY_SECONDS + 10)
    with forwarded(given.kubeconfig) as url:
        say(f"{QUESTION}  ->  {ask(url)}")
    print(NEXT.format(kubeconfig=given.kubeconfig, programs=tools.directory(), name=NAME), end="")


def install(kubeconfig: Path) -> None:
    """`helm upgrade --install` of the chart; ends the program with Helm's words if it fails."""
    command = [str(binary(VERSIONS[0])), "upgrade", "--install", "sglang-operator", "charts/sglang-operator"]
    command += ["--namespace=sglang-system", "--create-namespace", "--wait", f"--kubeconfig={kubeconfig}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"helm: {done.stderr.strip()}\nRemedy: is the cluster up? `make cluster`")


@contextmanager
def forwarded(kubeconfig: Path) -> Iterator[str]:
    """The endpoint's URL on this machine, while the body runs."""
    command = [str(tools.program("kubectl")), f"--kubeconfig={kubeconfig}", "port-forward", f"service/{NAME}", ":80"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            said = process.stdout.readline() if process.stdout else ""  # Forwarding from 127.0.0.1:40000 -> 8000
            yield f"http://{said.split()[2]}"
        finally:
            process.terminate()


def ask(url: str) -> str:
    """The endpoint's answer."""
    body = {"model": "any", "messages": [{"role": "user", "content": QUESTION}], "temperature": 0, "max_tokens": 32}
    reply = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120).raise_for_status()
    return str(reply.json()["choices"][0]["message"]["content"])


if __name__ == "__main__":
    main()
