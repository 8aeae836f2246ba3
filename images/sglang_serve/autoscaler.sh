# shellcheck shell=bash
# Read by the bash that KubeRay starts Ray's autoscaler with (BASH_ENV), before its `ray kuberay-autoscaler …`.
#
# In a head's pod nothing is ever started again (KubeRay sets restartPolicy Never), and without its autoscaler the pod is
# not ready, so the cluster gets no application: a single request to the API server that fails as the autoscaler starts would
# do. And a Python that is process 1 does not hear SIGTERM: every head would stay for a minute and a half after its end.
unset BASH_ENV

ray() {
  local child
  trap 'kill "$child"; exit 143' TERM
  while true; do
    command ray "$@" &
    child=$!
    wait "$child"
    echo "sglang_serve: the autoscaler has ended with $?; another one is started" >&2
    sleep 2 &
    child=$!
    wait "$child"
  done
}
