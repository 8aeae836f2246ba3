#!/usr/bin/env bash
# Installs what the image tests build with. Elsewhere than on Debian or Ubuntu as root it says so and goes on: the tests
# then fail in CI, and are skipped with the same reason on a laptop.
set -euo pipefail

missing=()
for tool in buildah mmdebstrap; do
  command -v "$tool" > /dev/null || missing+=("$tool")
done
((${#missing[@]})) || exit 0

if [[ $(id -u) != 0 ]] || ! command -v apt-get > /dev/null; then
  echo "image tools: ${missing[*]} cannot be installed here (needs Debian or Ubuntu, and root): THE IMAGE TESTS CANNOT RUN" >&2
  exit 0
fi
echo "image tools: installing ${missing[*]} from the distribution"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
