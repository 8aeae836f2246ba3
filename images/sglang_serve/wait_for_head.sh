# shellcheck shell=bash
# Read by the bash of `wait-gcs-ready` (BASH_ENV), the init container in which KubeRay lets a worker ask for its head again and again.
#
# As process 1 it does not hear SIGTERM without a trap, and once the head's Service has gone it never ends by itself. A pod that is
# deleted meanwhile would keep its node and accelerators for its whole grace period: as long as a drain may take.
unset BASH_ENV

case "${BASH_EXECUTION_STRING-}" in
  *"ray health-check"*)
    trap 'exit 143' TERM
    ray() {
      command ray "$@" &
      wait "$!"
    }
    sleep() {
      command sleep "$@" &
      wait "$!"
    }
    ;;
esac
