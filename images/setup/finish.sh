#!/usr/bin/env bash
# The last step of every serving image, as root: sglang_serve on Python's path, a user, and the PATH of login shells.
set -euo pipefail

command -v python || ln -s "$(command -v python3)" /usr/local/bin/python
site=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo /opt/sglang-serve > "$site/sglang_serve.pth"
python -m compileall -q /opt/sglang-serve # the user cannot write there

# Pods run as 1000. Ubuntu 24.04 has a user of that number already; torch wants any name at all for its caches.
getent passwd 1000 || useradd --uid 1000 --user-group --no-create-home --home-dir /home/sglang --shell /bin/bash sglang
install --directory --owner 1000 --group 1000 /home/sglang

# KubeRay may start `bash -l`, and /etc/profile would forget where the base put Python and Ray.
printf 'export PATH=%q\n' "$PATH" > /etc/profile.d/sglang-serve.sh
