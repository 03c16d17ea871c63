#!/usr/bin/env bash
# Serve a bundle from an image as it is meant to run (read-only, not root), ask it, and stop it.
# Usage: deploy/try-image.sh IMAGE
set -euo pipefail
image=$1
folder=$(mktemp -d)
trap 'docker rm -f pyflux-try >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
chmod 777 "$folder"

# A network with a random start: what it answers does not matter here.
docker run --rm -v "$folder:/out" --entrypoint python "$image" -c "
import pyflux_transfer as pft
pft.load('resnet18', weights=None, device='cpu').with_head(['ants', 'bees']).save('/out/model.safetensors')
from PIL import Image
Image.new('RGB', (64, 48), 'gold').save('/out/photo.jpg')
"

docker run -d --name pyflux-try --read-only --cap-drop ALL --security-opt no-new-privileges \
  -p 127.0.0.1:8000:8000 -v "$folder/model.safetensors:/model.safetensors:ro" \
  "$image" serve /model.safetensors

for _ in $(seq 300); do
  curl -fs http://127.0.0.1:8000/readyz && break
  sleep 1
done
curl -fsS -F "file=@$folder/photo.jpg" http://127.0.0.1:8000/predict | grep '"label"'
test "$(docker inspect -f '{{.Config.User}}' pyflux-try)" = 10001:10001
docker exec pyflux-try sh -c '! touch /opt/venv/written 2>/dev/null'
docker stop --time 40 pyflux-try
test "$(docker inspect -f '{{.State.ExitCode}}' pyflux-try)" = 0
echo "the image serves and drains"
