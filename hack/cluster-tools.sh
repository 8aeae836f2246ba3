#!/usr/bin/env bash
# Installs what nodes of the local cluster are made of, and Prometheus, which reads what the operator says of itself. Elsewhere
# than on Debian or Ubuntu as root it says so and goes on: the tests then fail in CI, and are skipped with the same reason on a
# laptop.
set -euo pipefail

declare -A package=(
  [containerd]=containerd [runc]=runc [ip]=iproute2 [nft]=nftables [buildah]=buildah [skopeo]=skopeo
  [mmdebstrap]=mmdebstrap [busybox]=busybox-static [unshare]=util-linux [openssl]=openssl
  [prometheus]=prometheus [iptables]=iptables [ipset]=ipset
)
missing=()
for tool in "${!package[@]}"; do
  command -v "$tool" > /dev/null || missing+=("${package[$tool]}")
done
[[ -x /usr/lib/cni/bridge ]] || missing+=(containernetworking-plugins)
((${#missing[@]})) || exit 0

if [[ $(id -u) != 0 ]] || ! command -v apt-get > /dev/null; then
  echo "cluster tools: ${missing[*]} cannot be installed here (needs Debian or Ubuntu, and root): NO PODS CAN RUN, OR NO PROMETHEUS" >&2
  exit 0
fi
echo "cluster tools: installing ${missing[*]} from the distribution"
# A policy that starts no service: we run containerd ourselves, the distribution's would only be in the way.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
  printf '#!/bin/sh\nexit 101\n' > $policy
  chmod +x $policy
  trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
